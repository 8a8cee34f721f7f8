"""``pipespec``, also as ``python -m pipespec.cli``: the one place where a Ctrl-C during the imports can be caught."""

import sys


def main() -> None:
    """Run the command line."""
    try:
        from pipespec.cli.main import main as run  # noqa: PLC0415

        run()
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
