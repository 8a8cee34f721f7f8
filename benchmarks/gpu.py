"""Times single steps of the engine against the memory-bandwidth floor, on a GPU in one call; see README.md.

Checks correctness first and does not time what is wrong. ``--device cpu --shapes tiny`` runs everything but the capture.
"""

from device_steps.command import main

if __name__ == "__main__":
    main()
