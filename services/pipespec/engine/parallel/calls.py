"""The calls of an engine as bytes: what the leader tells the followers.

msgpack arrays ``[kind, …]``, never pickles. Both ends run the same code of the same installation, so nothing is
versioned, and fields go in the order in which their classes define them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import msgpack

from pipespec.ops.errors import InvariantBroken
from pipespec.protocol.ids import SessionId, TokenId
from pipespec.protocol.sampling import Sampling
from pipespec.protocol.work import Work


@dataclass(frozen=True, slots=True)
class Open:
    """``Engine.open``."""

    session: SessionId
    prompt: Sequence[TokenId]
    sampling: Sampling


@dataclass(frozen=True, slots=True)
class Step:
    """``Engine.step``."""

    batch: Sequence[Work]


@dataclass(frozen=True, slots=True)
class Close:
    """``Engine.close``."""

    session: SessionId


@dataclass(frozen=True, slots=True)
class Stop:
    """No call follows."""


Call = Open | Step | Close | Stop


def encode(call: Call) -> bytes:
    """Pack a call."""
    match call:
        case Open(session=session, prompt=prompt, sampling=sampling):
            frame = ["open", session, tuple(prompt), _values(sampling)]
        case Step(batch=batch):
            frame = ["step", *(_values(work) for work in batch)]
        case Close(session=session):
            frame = ["close", session]
        case Stop():
            frame = ["stop"]
    packed: bytes = msgpack.packb(frame)
    return packed


def decode(data: bytes) -> Call:
    """Unpack a call.

    Raises:
        InvariantBroken: no call that ``encode`` packed.
    """
    match msgpack.unpackb(data, use_list=False):
        case ("open", session, prompt, sampling):
            return Open(session, prompt, Sampling(*sampling))
        case ("step", *batch):
            return Step(tuple(Work(*work) for work in batch))
        case ("close", session):
            return Close(session)
        case ("stop",):
            return Stop()
        case frame:
            raise InvariantBroken(f"the leader told an unknown call: {str(frame)[:80]}")


def _values(record: Any) -> tuple[Any, ...]:
    """A dataclass's fields in order; not ``astuple``, which copies every token."""
    return tuple(getattr(record, field.name) for field in fields(record))
