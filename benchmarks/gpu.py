"""Times single steps of the engine against the memory-bandwidth floor, on a GPU in one call; see README.md.

Checks correctness first and does not time what is wrong. ``--device cpu --shapes tiny`` runs everything but the capture.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))  # so that it runs from any folder

from benchmarks.device_steps.command import main

if __name__ == "__main__":
    main()
