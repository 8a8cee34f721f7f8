"""The queues between the bus thread and the rest of a process: bounded inward, woken through a socket pair."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections import deque
from typing import Generic, TypeVar

Item = TypeVar("Item")


class Inbox(Generic[Item]):
    """Items for one consumer. When it is full the oldest go: newer messages carry the whole window anyway."""

    def __init__(self, max_len: int) -> None:
        self.num_dropped = 0
        self._items: deque[Item] = deque()
        self._max_len = max_len
        self._filled = threading.Condition()

    def put(self, items: list[Item]) -> None:
        """Add items, never blocking."""
        with self._filled:
            self._items.extend(items)
            while len(self._items) > self._max_len:
                self._items.popleft()
                self.num_dropped += 1
            self._filled.notify()

    def take(self, timeout_s: float) -> list[Item]:
        """All items that are there; waits up to ``timeout_s`` for the first."""
        with self._filled:
            if not self._items and timeout_s > 0:
                self._filled.wait(timeout_s)
            items = list(self._items)
            self._items.clear()
            return items


class Waker:
    """Wakes a thread that polls file descriptors."""

    def __init__(self) -> None:
        self._reader, self._writer = socket.socketpair()
        self._reader.setblocking(False)
        self._writer.setblocking(False)
        self._is_awake = False

    def fileno(self) -> int:
        """The descriptor to poll for reading."""
        return self._reader.fileno()

    def wake(self) -> None:
        """Make the descriptor readable, unless it is already. What the thread is woken for must be there before."""
        if not self._is_awake:
            self._is_awake = True
            self._writer.send(b"\0")

    def clear(self) -> None:
        """Swallow what woke us; look for what there is to do afterwards."""
        with contextlib.suppress(BlockingIOError):
            while self._reader.recv(4096):
                pass
        self._is_awake = False  # last: what comes before it is looked for, what comes after it wakes again

    def close(self) -> None:
        """Free both ends."""
        self._reader.close()
        self._writer.close()
