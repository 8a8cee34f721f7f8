"""``python -m pipespec.cli``: the same as the ``pipespec`` command."""

from pipespec.cli.main import main

main()
