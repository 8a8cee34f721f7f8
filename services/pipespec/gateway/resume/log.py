"""One resumable stream at the gateway that owns it: its events as frames, bounded, and who reads them.

``[first, delivered)`` went to a client, or to the gateway that asks for one, and may be dropped; ``[delivered, end)`` is never
dropped: a stream that cannot keep it ends with an error instead. Sans-I/O.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

from pipespec.ops.errors import RequestError
from pipespec.protocol.ids import Topic
from pipespec.protocol.streams import MAX_FRAMES, StreamId

FRAME_OVERHEAD = 64
STREAM_OVERHEAD = 1024
"""Bytes that a frame, and a stream, are counted with beside what they hold."""
_FORMER_READERS = 32


@dataclass(frozen=True, slots=True)
class Frame:
    """One event in the words of its client's protocol; ``index`` is its place in the stream."""

    index: int
    content: bytes


@dataclass(slots=True)
class Attached:
    """Who reads a stream now.

    Attributes:
        reader: its number; drawn by the gateway that its client is connected to.
        next: index of the frame that it gets next.
        inbox: of the gateway that asks for it; None for a client of this gateway.
        credit: bytes that may be sent to ``inbox`` before it asks again.
        acknowledged: up to where ``inbox`` has everything.
        heard_s: when it asked last.
        is_told: it was told the end.
    """

    reader: int
    next: int
    inbox: Topic | None = None
    credit: int = 0
    acknowledged: int = 0
    heard_s: float = 0.0
    is_told: bool = False


@dataclass(slots=True)
class StreamLog:
    """Frames, reader and end of one stream.

    Attributes:
        stream: its id.
        protocol: of its frames.
        alone_s: since when it has no reader.
        first: index of ``frames[0]``.
        delivered: index of the first frame that no client has had.
        size: bytes that it counts with.
        ended: no frame follows.
        error: why it ended early; None after a complete one.
        reader: who reads it now.
    """

    stream: StreamId
    protocol: str
    alone_s: float
    first: int = 0
    delivered: int = 0
    size: int = STREAM_OVERHEAD
    ended: bool = False
    error: RequestError | None = None
    reader: Attached | None = None
    _frames: deque[bytes] = field(default_factory=deque)
    _last: int | None = None
    _former: deque[int] = field(default_factory=lambda: deque(maxlen=_FORMER_READERS))

    @property
    def end(self) -> int:
        """Index of the next frame."""
        return self.first + len(self._frames)

    def append(self, frame: bytes) -> None:
        """Add a frame."""
        self._frames.append(frame)
        self.size += len(frame) + FRAME_OVERHEAD

    def drop_last(self) -> int:
        """Take back the frame that was added last; tell how many bytes that freed."""
        freed = len(self._frames.pop()) + FRAME_OVERHEAD
        self.size -= freed
        return freed

    def trim(self, max_size: int) -> int:
        """Drop delivered frames, the oldest first, until no more than ``max_size`` bytes are held or none is left.

        Returns:
            Bytes freed.
        """
        before = self.size
        while self.size > max_size and self.first < self.delivered:
            self.size -= len(self._frames.popleft()) + FRAME_OVERHEAD
            self.first += 1
        return before - self.size

    def clear(self) -> int:
        """Drop all frames; tell how many bytes that freed."""
        before = self.size
        self.first = self.delivered = self.end
        if self.reader is not None:
            self.reader.next = self.end
        self._frames.clear()
        self.size = STREAM_OVERHEAD
        return before - self.size

    def frames(self, index: int, *, max_bytes: int) -> tuple[bytes, ...]:
        """Frames from ``index`` on, of ``max_bytes`` together, but at least one where there is one."""
        taken: list[bytes] = []
        begin = index - self.first
        for place in range(begin, min(begin + MAX_FRAMES, len(self._frames))):
            frame = self._frames[place]  # near an end as a rule, where a deque is fast
            max_bytes -= len(frame)
            if taken and max_bytes < 0:
                break
            taken.append(frame)
        return tuple(taken)

    def deliver(self, index: int) -> None:
        """All before ``index`` was given to a client."""
        self.delivered = max(self.delivered, index)

    def attach(self, attached: Attached) -> None:
        """Let a reader in; the one before it is former from now on, and what it had may be wanted again."""
        self.delivered = attached.next
        if self._last is not None and self._last != attached.reader:
            self._former.append(self._last)
        self._last = attached.reader
        self.reader = attached

    def detach(self, now: float) -> None:
        """Nobody reads it; the same reader may come back."""
        if self.reader is not None:
            self.reader = None
            self.alone_s = now

    def is_former(self, reader: int) -> bool:
        """Whether a reader has lost the stream to a newer one."""
        return reader in self._former
