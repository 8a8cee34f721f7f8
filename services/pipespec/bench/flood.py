"""How many messages one broker forwards: a publisher and a subscriber that do nothing else."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass

import zmq

from pipespec.bus.address import publish_endpoints, subscribe_endpoints
from pipespec.bus.keys import ClientKeys
from pipespec.bus.sockets import HIGH_WATER_MARK, Context, Socket, connect, publisher, subscriber
from pipespec.ops.errors import Unavailable
from pipespec.ops.pipeline import BrokerSettings
from pipespec.protocol.codec import encode
from pipespec.protocol.ids import (
    Digest,
    Epoch,
    Incarnation,
    Position,
    SessionId,
    TokenId,
    Topic,
    observer_inbox,
)
from pipespec.protocol.messages import Envelope, Segment, SegmentKind
from pipespec.protocol.seal import seal

TOKENS = 8
_UNDER_WAY = HIGH_WATER_MARK // 2
"""Fewer than any queue holds, so that none is dropped."""
_PATIENCE_S = 5.0


@dataclass(frozen=True, slots=True)
class Flood:
    """What came through.

    Attributes:
        messages: all that were sent.
        elapsed_s: for them.
    """

    messages: int
    elapsed_s: float

    @property
    def messages_per_s(self) -> float:
        """Into the broker, and out again."""
        return self.messages / self.elapsed_s


def flood(
    brokers: Sequence[BrokerSettings], *, keys: ClientKeys | None = None, messages: int = 200_000
) -> Flood:
    """Send speculations of 8 tokens to oneself, as fast as they come back.

    Raises:
        Unavailable: some did not.
    """
    inbox = observer_inbox(f"flood-{os.getpid()}")
    context: Context = zmq.Context()
    try:
        publish_to, subscribe_at = publish_endpoints(brokers[:1]), subscribe_endpoints(brokers[:1])
        out, back = publisher(context, publish_to), subscriber(context, subscribe_at, [inbox])
        connect(out, publish_to, keys)
        connect(back, subscribe_at, keys)
        back.set(zmq.RCVTIMEO, 20)
        frames = (inbox, seal(inbox, encode(_speculation(inbox))))
        _join(out, back, frames)
        began_s = time.perf_counter()
        _pass(out, back, frames, messages)
        return Flood(messages, time.perf_counter() - began_s)
    finally:
        context.destroy(linger=0)


def _join(out: Socket, back: Socket, frames: tuple[Topic, bytes]) -> None:
    """Until a message comes back; those before it were lost, and none is under way afterwards."""
    until_s = time.perf_counter() + _PATIENCE_S
    while time.perf_counter() < until_s:
        out.send_multipart(frames)
        if back.poll(20):
            while back.poll(100):
                back.recv_multipart()
            return
    raise Unavailable("no broker of the pipeline answers; does it run?", code="no_broker")


def _pass(out: Socket, back: Socket, frames: tuple[Topic, bytes], messages: int) -> None:
    sent = received = 0
    while received < messages:
        while sent < messages and sent - received < _UNDER_WAY:
            out.send_multipart(frames, copy=True)
            sent += 1
        try:
            back.recv_multipart()
            received += 1
            while True:
                back.recv_multipart(zmq.NOBLOCK)
                received += 1
        except zmq.Again:
            if received < sent and not back.poll(int(_PATIENCE_S * 1000)):
                raise Unavailable(
                    f"{sent - received} of {sent} messages did not come through the broker", code="no_broker"
                ) from None


def _speculation(sender: Topic) -> Envelope:
    tokens = tuple(TokenId(1000 + index) for index in range(TOKENS))
    segment = Segment(
        SegmentKind.SPECULATION, SessionId(bytes(16)), Epoch(0), Position(100), Digest(bytes(16)), tokens
    )
    return Envelope(sender, Incarnation(1), 1, segment)
