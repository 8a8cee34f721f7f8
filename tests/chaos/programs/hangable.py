"""``pipespec`` with a thread that can be hung: SIGUSR1 stops the main thread where it is, SIGUSR2 lets it go on.

Python runs signal handlers in the main thread, which in a stage is the one that owns sessions and engine; the bus thread
goes on. So looks a step that does not return: the process lives, answers its probes and beats.
"""

from __future__ import annotations

import signal
import time

from pipespec.cli.__main__ import main

_hung = False


def _hang(number: int, frame: object) -> None:
    global _hung  # noqa: PLW0603 - signal handlers have nowhere else to put it
    _hung = True
    while _hung:
        time.sleep(0.01)


def _release(number: int, frame: object) -> None:
    global _hung  # noqa: PLW0603 - as above
    _hung = False


if __name__ == "__main__":
    signal.signal(signal.SIGUSR1, _hang)
    signal.signal(signal.SIGUSR2, _release)
    main()
