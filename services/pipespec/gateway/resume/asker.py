"""Reads a stream that another gateway owns, for a client of this one: asks until the end, whatever gets lost.

It asks at once, on every heartbeat, and when it has used up what it allowed to be sent; frames that start beyond what
is expected are not used, the next ask brings them again. An owner that answers nothing for the patience has lost the
stream. Sans-I/O; at most ``WINDOW`` bytes wait for the client, and one message more.
"""

from __future__ import annotations

from collections import deque

from pipespec.gateway.resume.errors import error_of, resume_expired
from pipespec.gateway.resume.log import Frame
from pipespec.ops.errors import RequestError
from pipespec.protocol.streams import MAX_FRAME_BYTES, Resume, Resumed, StreamId, StreamState

WINDOW = 256 * 1024
_MAX_WAITING = 2 * WINDOW + MAX_FRAME_BYTES
"""Beyond it the owner has sent what it was not asked for."""
_MIN_ASKS = 5
"""Without an answer, before an owner is given up: a gateway that was stopped itself has to listen first."""


class RemoteStream:
    """One reading of one stream.

    Args:
        stream: which.
        reader: 64 random bits.
        protocol: that the frames must be of.
        index: of the first frame that is wanted.
        heartbeat_s: between asks.
        patience_s: without an answer.
        cancel: end the stream instead of reading it.
    """

    def __init__(
        self,
        stream: StreamId,
        *,
        reader: int,
        protocol: str,
        index: int,
        heartbeat_s: float,
        patience_s: float,
        cancel: bool = False,
    ) -> None:
        self.reader = reader
        self.stream = stream
        self.is_known = False
        self._protocol = protocol
        self._expected = index
        self._heartbeat_s = heartbeat_s
        self._patience_s = patience_s
        self._cancel = cancel
        self._frames: deque[Frame] = deque()
        self._waiting = 0
        self._allowed = 0
        self._asked_s = float("-inf")
        self._heard_s: float | None = None
        self._num_unanswered = 0
        self._ended = False
        self._error: RequestError | None = None

    @property
    def has_ended(self) -> bool:
        """Nothing more will come from the owner."""
        return self._ended

    def check_access(self) -> None:
        """Whether there is anything to read, asked once the owner has answered.

        Raises:
            RequestError: there is not, and this is why.
        """
        if self._error is not None and not self._frames:
            raise self._error

    def take(self) -> Frame | None:
        """Next frame, if it is here.

        Raises:
            RequestError: why none comes any more.
        """
        if self._frames:
            frame = self._frames.popleft()
            self._waiting -= len(frame.content)
            return frame
        if self._error is not None:
            raise self._error
        return None

    def fail(self, error: RequestError) -> None:
        """Ask no more, and end with this error after what is here."""
        if not self._ended:
            self._ended, self._error = True, error

    def on_resumed(self, now: float, message: Resumed) -> None:
        """Take over an answer."""
        if self._ended:
            return
        self._heard_s, self._num_unanswered = now, 0
        refused = message.state is StreamState.FAILED and message.start == 0 and not message.frames
        reaches = message.start <= self._expected <= message.start + len(message.frames)
        if not (reaches or refused or self._cancel) or self._waiting > _MAX_WAITING:
            return  # something before it was lost; or it was not asked for
        self.is_known = True
        for frame in message.frames[max(0, self._expected - message.start) :]:
            self._frames.append(Frame(self._expected, frame))
            self._expected += 1
            self._waiting += len(frame)
            self._allowed -= len(frame)
        if message.state is not StreamState.RUNNING:
            self._ended = True
            self._error = error_of(message.failure) if message.state is StreamState.FAILED else None

    def ask(self, now: float) -> Resume | None:
        """What the owner is to be asked now, if anything. Call it after anything happened, and on a timer."""
        if self._ended:
            return None
        if self._heard_s is None:
            self._heard_s = now
        if now - self._heard_s > self._patience_s and self._num_unanswered >= _MIN_ASKS:
            self.fail(resume_expired("the gateway that holds it does not answer"))
            return None
        has_room = self._waiting <= WINDOW // 2
        is_due = now - self._asked_s >= self._heartbeat_s or (self._allowed <= 0 and has_room)
        if not is_due:
            return None
        self._asked_s = now
        self._num_unanswered += 1
        self._allowed = max(0, WINDOW - self._waiting)
        return Resume(
            self.stream, self.reader, self._protocol, self._expected, self._allowed, cancel=self._cancel
        )
