"""Compares our engine and chain with what transformers offers, on one machine in one run; see README.md."""

from comparison.command import main

if __name__ == "__main__":
    main()
