"""How a process ends: on SIGTERM or SIGINT once, at once on the second, and never later than its parent.

A ``Shutdown`` is a latch with a reason. Threads wait on it; an event loop is told through a callback.
"""

from __future__ import annotations

import ctypes
import os
import queue
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Self

_PR_SET_PDEATHSIG = 1


def exit_at_once(number: int) -> None:
    """End this process without cleaning up, with the status that a shell gives to the signal."""
    os._exit(128 + number)


class Shutdown:
    """Set once, by a signal or by code; says why.

    Safe to set from a signal handler: it rests on ``SimpleQueue``, whose ``put`` is reentrant. (``threading.Event``
    deadlocks when the signal comes while its waiter holds its lock.)
    """

    def __init__(self) -> None:
        self.reason = ""
        self._is_set = False
        self._wake: queue.SimpleQueue[None] = queue.SimpleQueue()
        self._callbacks: list[Callable[[], None]] = []

    @classmethod
    @contextmanager
    def on_signals(cls, *, on_second: Callable[[int], None] = exit_at_once) -> Iterator[Self]:
        """A shutdown that SIGTERM and SIGINT set while the block runs. Main thread only.

        Args:
            on_second: called with the number of each further signal.
        """
        shutdown = cls()

        def handle(number: int, _frame: FrameType | None) -> None:
            if shutdown.is_set():
                on_second(number)
            shutdown.set(signal.Signals(number).name)

        before = {number: signal.signal(number, handle) for number in (signal.SIGTERM, signal.SIGINT)}
        try:
            yield shutdown
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def set(self, reason: str) -> None:
        """End; the first reason stays."""
        if not self._is_set:
            self.reason = reason
            self._is_set = True
            self._wake.put(None)
            for callback in self._callbacks:
                callback()

    def is_set(self) -> bool:
        """Whether the end has come."""
        return self._is_set

    def wait(self, timeout_s: float | None = None) -> bool:
        """Wait for the end; whether it has come."""
        if not self._is_set:
            try:
                self._wake.get(timeout=timeout_s)
            except queue.Empty:
                return self._is_set
            self._wake.put(None)  # for the next thread that waits
        return True

    def call(self, callback: Callable[[], None]) -> None:
        """Call back when the end comes, from wherever it comes: the callback must be safe there."""
        self._callbacks.append(callback)
        if self.is_set():
            callback()


def end_with_parent(parent: int) -> None:
    """Have the kernel kill this process when the process ``parent``, which started it, is gone. Call it first thing.

    SIGKILL, because nobody is left who could follow up a polite signal; all state here is soft. Linux only, nothing
    elsewhere. The kernel watches the *thread* that started this process: a supervisor keeps it while children live.
    """
    if sys.platform != "linux":
        return
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG) failed")
    if os.getppid() != parent:  # it ended before the request took effect
        exit_at_once(signal.SIGKILL)
