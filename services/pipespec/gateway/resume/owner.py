"""All resumable streams of the gateway that generates them: what is kept, who reads, what is freed when.

A stream has one reader, a client of this gateway or another gateway that asks for a client of its own; the newest wins.
Without a reader for the grace period it is dropped, running or not. Sans-I/O: messages go to ``outbox``, local readers
with news to ``woken``, streams whose generation must stop to ``stopped``.
"""

from __future__ import annotations

from dataclasses import dataclass

from pipespec.gateway.resume.errors import (
    buffer_full,
    failure_of,
    resume_expired,
    resumed_elsewhere,
    unknown_stream,
)
from pipespec.gateway.resume.log import Attached, Frame, StreamLog
from pipespec.ops.errors import RequestError
from pipespec.protocol.ids import Topic
from pipespec.protocol.messages import Outbox
from pipespec.protocol.streams import MAX_FRAME_BYTES, Failure, Resume, Resumed, StreamId, StreamState

MESSAGE_BYTES = 256 * 1024
"""Of frames in one message."""
MAX_CREDIT = 1024 * 1024
"""Bytes that are sent for one ask at most."""

ROOM_PERCENT = 90
"""Of the total that is left when room is made: to look through all streams for every frame would be slow."""


@dataclass(frozen=True, slots=True)
class Limits:
    """How long and how much.

    Attributes:
        grace_s: without a reader.
        lease_s: an asking gateway that is silent for longer reads no more.
        stream_bytes: kept of one stream.
        total_bytes: kept of all.
    """

    grace_s: float
    lease_s: float
    stream_bytes: int
    total_bytes: int


class OwnedStreams:
    """The streams of one gateway."""

    def __init__(self, limits: Limits) -> None:
        self.outbox = Outbox()
        self.woken: set[int] = set()
        self.stopped: list[StreamId] = []
        self.size = 0
        self._limits = limits
        self._logs: dict[StreamId, StreamLog] = {}

    @property
    def num_streams(self) -> int:
        """Kept now."""
        return len(self._logs)

    @property
    def is_settled(self) -> bool:
        """Whether every gateway that reads a stream has been sent all of it, and its end."""
        readers = (log.reader for log in self._logs.values())
        return all(reader.is_told for reader in readers if reader is not None and reader.inbox is not None)

    # The generation

    def open(self, now: float, stream: StreamId, *, protocol: str) -> None:
        """Begin a stream; it has no reader yet."""
        log = self._logs[stream] = StreamLog(stream, protocol, alone_s=now)
        self.size += log.size
        self._make_room(log)

    def append(self, stream: StreamId, frame: bytes) -> None:
        """Add a frame.

        Raises:
            RequestError: the stream takes no more: it was cancelled or dropped, or its client is too far behind.
        """
        log = self._logs.get(stream)
        if log is None:
            raise unknown_stream()
        if log.error is not None:
            raise log.error
        before = log.size
        log.append(frame)
        self.size += log.size - before
        self.size -= log.trim(self._limits.stream_bytes)
        self._make_room(log)
        is_too_much = log.size > self._limits.stream_bytes or self.size > self._limits.total_bytes
        if is_too_much or len(frame) > MAX_FRAME_BYTES:
            self.size -= log.drop_last()
            self.end(stream, error=buffer_full())
            raise buffer_full()
        self._tell(log)

    def end(self, stream: StreamId, *, error: RequestError | None = None) -> None:
        """No frame follows; the first end counts, a dropped stream is ignored."""
        log = self._logs.get(stream)
        if log is not None and not log.ended:
            log.ended, log.error = True, error
            self._tell(log)

    def cancel(self, stream: StreamId, *, protocol: str) -> None:
        """End a stream and forget what it held; a complete one stays complete.

        Raises:
            RequestError: ``resume_expired``.
        """
        log = self._known(stream, protocol)
        if not log.ended:
            self.stopped.append(stream)
            self.size -= log.clear()
            self.end(
                stream,
                error=RequestError("the request was cancelled before its last token", code="cancelled"),
            )

    # Clients of this gateway

    def check(self, stream: StreamId, *, protocol: str, index: int) -> None:
        """Whether a client may read from ``index`` on.

        Raises:
            RequestError: ``resume_expired``; or ``invalid_value``: there is no such event yet.
        """
        self._check_index(self._known(stream, protocol), index)

    def attach(self, stream: StreamId, *, protocol: str, reader: int, index: int) -> None:
        """Let a client of this gateway read from ``index`` on; raises as ``check`` does."""
        log = self._known(stream, protocol)
        self._check_index(log, index)
        self._replace_reader(log, Attached(reader, index))
        self.woken.add(reader)

    def take(self, stream: StreamId, reader: int) -> Frame | None:
        """Next frame of a reader, if there is one.

        Raises:
            RequestError: why none comes any more: the stream has failed, was dropped, or belongs to a newer reader.
        """
        log = self._logs.get(stream)
        if log is None:
            raise unknown_stream()
        attached = log.reader
        if attached is None or attached.reader != reader:
            raise resumed_elsewhere()
        if attached.next < log.end:
            (content,) = log.frames(attached.next, max_bytes=0)
            attached.next += 1
            log.deliver(attached.next)
            return Frame(attached.next - 1, content)
        if log.error is not None:
            raise log.error
        return None

    def is_complete(self, stream: StreamId) -> bool:
        """Whether no frame follows what was taken; asked when ``take`` gave none."""
        log = self._logs.get(stream)
        return log is not None and log.ended

    def detach(self, now: float, stream: StreamId, reader: int) -> None:
        """A client is gone: the grace begins, if it was the reader."""
        log = self._logs.get(stream)
        if log is not None and log.reader is not None and log.reader.reader == reader:
            log.detach(now)

    # Other gateways

    def on_resume(self, now: float, sender: Topic, message: Resume) -> None:
        """Answer another gateway."""
        try:
            self._on_resume(now, sender, message)
        except RequestError as error:
            self._refuse(sender, message.stream, message.reader, error)

    def _on_resume(self, now: float, sender: Topic, message: Resume) -> None:
        if message.cancel:
            self.cancel(message.stream, protocol=message.protocol)
        log = self._known(message.stream, message.protocol)
        attached = log.reader
        if message.cancel:
            answer = Attached(message.reader, log.end, inbox=sender)
            self._send(log, answer, ())
            return
        if attached is None or attached.reader != message.reader:
            if log.is_former(message.reader):
                raise resumed_elsewhere()
            self._check_index(log, message.index)  # before it takes the stream from another
            attached = Attached(message.reader, message.index, inbox=sender)
            self._replace_reader(log, attached)
        elif message.index < attached.acknowledged:
            return  # late: a newer ask was here before
        self._check_index(log, message.index)
        attached.next = attached.acknowledged = message.index
        attached.credit = min(message.credit, MAX_CREDIT)
        attached.heard_s = now
        attached.is_told = False
        log.deliver(message.index)
        if not self._push(log, attached):
            self._send(log, attached, ())

    # Time

    def on_timer(self, now: float) -> None:
        """Let silent gateways go, then drop streams that were alone for the grace period."""
        for log in list(self._logs.values()):
            attached = log.reader
            is_remote = attached is not None and attached.inbox is not None
            if attached is not None and is_remote and now - attached.heard_s > self._limits.lease_s:
                log.detach(now)
            if log.reader is None and now - log.alone_s >= self._limits.grace_s:
                self._drop(log)

    # Within

    def _known(self, stream: StreamId, protocol: str) -> StreamLog:
        log = self._logs.get(stream)
        if log is None or log.protocol != protocol:
            raise unknown_stream()
        return log

    def _check_index(self, log: StreamLog, index: int) -> None:
        if index > log.end:
            raise RequestError(
                f"the stream has no event {index - 1} yet; expected the id of an event that was received",
                code="invalid_value",
                param="resume_id",
            )
        if log.error is not None and (index < log.first or index == log.end):
            raise log.error
        if index < log.first:
            raise resume_expired("events so far back are not kept")

    def _replace_reader(self, log: StreamLog, attached: Attached) -> None:
        former = log.reader
        log.attach(attached)
        if former is None:
            return
        if former.inbox is None:
            self.woken.add(former.reader)
        else:
            self._refuse(former.inbox, log.stream, former.reader, resumed_elsewhere())

    def _tell(self, log: StreamLog) -> None:
        if log.reader is None:
            return
        if log.reader.inbox is None:
            self.woken.add(log.reader.reader)
        else:
            self._push(log, log.reader)

    def _push(self, log: StreamLog, attached: Attached) -> bool:
        """Send what is new and may be sent; tell whether there was anything."""
        has_sent = False
        while True:
            limit = min(attached.credit, MESSAGE_BYTES)
            frames = log.frames(attached.next, max_bytes=limit) if attached.credit > 0 else ()
            is_end = log.ended and attached.next + len(frames) == log.end
            if not frames and (attached.is_told or not is_end):
                return has_sent
            self._send(log, attached, frames)
            attached.next += len(frames)
            attached.credit -= sum(len(frame) for frame in frames)
            attached.is_told = is_end
            has_sent = True

    def _send(self, log: StreamLog, attached: Attached, frames: tuple[bytes, ...]) -> None:
        state, failure = StreamState.RUNNING, Failure()
        if log.ended and attached.next + len(frames) == log.end:
            state = StreamState.COMPLETE if log.error is None else StreamState.FAILED
            failure = Failure() if log.error is None else failure_of(log.error)
        if attached.inbox is not None:
            answer = Resumed(log.stream, attached.reader, attached.next, frames, state, failure)
            self.outbox.send(attached.inbox, answer)

    def _refuse(self, inbox: Topic, stream: StreamId, reader: int, error: RequestError) -> None:
        refusal = Resumed(stream, reader, 0, (), StreamState.FAILED, failure_of(error))
        self.outbox.send(inbox, refusal)

    def _make_room(self, keep: StreamLog) -> None:
        """Well below the total, where it is exceeded: first whole streams that nobody reads, then what others have delivered."""
        if self.size <= self._limits.total_bytes:
            return
        enough = self._limits.total_bytes * ROOM_PERCENT // 100
        alone = [log for log in self._logs.values() if log.reader is None and log is not keep]
        for log in sorted(alone, key=lambda log: (not log.ended, log.alone_s)):
            if self.size <= enough:
                return
            self._drop(log)
        for log in self._logs.values():
            self.size -= log.trim(log.size - max(0, self.size - enough))

    def _drop(self, log: StreamLog) -> None:
        del self._logs[log.stream]
        self.size -= log.size
        if not log.ended:
            self.stopped.append(log.stream)
