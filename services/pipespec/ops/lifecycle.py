"""How a process ends: on SIGTERM or SIGINT once, at once on the second, and never later than its parent.

A ``Shutdown`` is a latch with a reason. Threads wait on it; an event loop is told through a callback.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Self

_PR_SET_PDEATHSIG = 1


class Shutdown:
    """Set once, by a signal or by code; says why."""

    def __init__(self) -> None:
        self.reason = ""
        self._event = threading.Event()
        self._callbacks: list[Callable[[], None]] = []

    @classmethod
    @contextmanager
    def on_signals(cls) -> Iterator[Self]:
        """A shutdown that SIGTERM and SIGINT set; a second signal ends the process at once (exit code 128 + n)."""
        shutdown = cls()

        def handle(number: int, _frame: FrameType | None) -> None:
            if shutdown.is_set():
                os._exit(128 + number)
            shutdown.set(signal.Signals(number).name)

        before = {number: signal.signal(number, handle) for number in (signal.SIGTERM, signal.SIGINT)}
        try:
            yield shutdown
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def set(self, reason: str) -> None:
        """End; the first reason stays."""
        if not self._event.is_set():
            self.reason = reason
            self._event.set()
            for callback in self._callbacks:
                callback()

    def is_set(self) -> bool:
        """Whether the end has come."""
        return self._event.is_set()

    def wait(self, timeout_s: float | None = None) -> bool:
        """Wait for the end; whether it has come."""
        return self._event.wait(timeout_s)

    def call(self, callback: Callable[[], None]) -> None:
        """Call back when the end comes, from wherever it comes: the callback must be safe there."""
        self._callbacks.append(callback)
        if self.is_set():
            callback()


def end_with_parent() -> None:
    """Let the kernel send SIGTERM to this process when its parent ends, however that ends. Linux only."""
    if sys.platform != "linux":
        return
    parent = os.getppid()
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
    if os.getppid() != parent:  # it ended before the request took effect
        os.kill(os.getpid(), signal.SIGTERM)
