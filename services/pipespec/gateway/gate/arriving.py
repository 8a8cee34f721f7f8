"""Bytes of requests that are still being read, of all connections together.

Before a request is whole nobody can tell what it asks for, so that the gate cannot count it yet; what its sender has
sent is in memory all the same. One that is alone is read, whatever the limit: each is bounded by its protocol.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from pipespec.ops.errors import Overloaded


class Arriving:
    """Counts for one gateway.

    Attributes:
        limit: bytes at once; beyond it those are refused that have more to say, while others are being read.
        num_bytes: being read now.
        num_refused: since the start.
    """

    def __init__(self, limit: int) -> None:
        self.num_bytes = 0
        self.num_refused = 0
        self.limit = limit

    @contextmanager
    def body(self) -> Iterator[Callable[[int], None]]:
        """Around the reading and parsing of one request; call what it yields with the length of every piece that came.

        Raises:
            Overloaded: from the call, when there is no room for the piece.
        """
        own = 0

        def take(num_bytes: int) -> None:
            nonlocal own
            if self.num_bytes > own and self.num_bytes + num_bytes > self.limit:
                self.num_refused += 1
                raise Overloaded(f"{self.num_bytes} bytes of other requests are being read; try again later")
            own += num_bytes
            self.num_bytes += num_bytes

        try:
            yield take
        finally:
            self.num_bytes -= own
