"""What gateways say to each other about the streams of their clients: two kinds, ``resume`` and ``resumed``.

A client that lost its connection may come back through any gateway. That one asks the stream's owner for what follows
an index, again and again, until the end; the owner answers every time. Either may be lost, doubled or late: an ask says
all that the owner needs to know, and an answer says where it starts.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import NewType

StreamId = NewType("StreamId", bytes)
"""16 bytes that nobody guesses: a hash of what its gateway drew and of who asked for it. Who knows them may read it."""

STREAM_ID_LEN = 16
MAX_FRAME_BYTES = 256 * 1024
"""Of one frame: one event, in the words of the client's protocol."""
MAX_FRAMES = 1024
"""In one ``resumed``."""


class StreamState(StrEnum):
    """How it stands with a stream after the frames of a ``resumed``."""

    RUNNING = "running"
    """More may come."""
    COMPLETE = "complete"
    """These were the last."""
    FAILED = "failed"
    """There is nothing more for this reader; ``failure`` says why."""


@dataclass(frozen=True, slots=True)
class Failure:
    """An error for the client, as it crosses the bus.

    Attributes:
        kind: ``overloaded``, ``unavailable``, ``lost`` or ``invalid``; empty where there is no error.
        code: for programs.
        message: for people.
        param: the field at fault, or empty.
    """

    kind: str = ""
    code: str = ""
    message: str = ""
    param: str = ""


@dataclass(frozen=True, slots=True)
class Resume:
    """Gateway to the gateway that owns a stream: send what comes from ``index`` on. Repeated on every heartbeat.

    Attributes:
        stream: which.
        reader: 64 random bits; a new one takes the stream over from the one before.
        protocol: that the frames must be of: ``openai``, ``grpc`` or ``zmq``.
        index: of the first frame that is wanted; acknowledges all before it.
        credit: bytes of frames that may be sent until the next ask.
        cancel: end the stream instead.
    """

    stream: StreamId
    reader: int
    protocol: str
    index: int
    credit: int
    cancel: bool


@dataclass(frozen=True, slots=True)
class Resumed:
    """The owner to a gateway that asked: the answer to every ``resume``, and again when there is news.

    Attributes:
        stream: which.
        reader: that it is for.
        start: index of ``frames[0]``, and where the answer starts when there are none.
        frames: events of the stream.
        state: after these frames.
        failure: of a failed stream, or why this reader gets nothing.
    """

    stream: StreamId
    reader: int
    start: int
    frames: tuple[bytes, ...]
    state: StreamState
    failure: Failure
