"""Gateways of a test that speak over a memory bus, which may lose, double and reorder; and what turns their clocks."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from pipespec.gateway.resume import ResumeService
from pipespec.ops.pipeline import GatewaySettings, TimerSettings
from pipespec.protocol.codec import decode, encode
from pipespec.protocol.ids import Incarnation, Topic, gateway_inbox
from pipespec.protocol.messages import Envelope, Message
from pipespec.protocol.streams import Resume, Resumed
from pipespec.protocol.timers import Timers

TIMERS = Timers.of(TimerSettings(heartbeat_ms=20, dead_ms=1000))


class MemoryBus:
    """Carries messages between gateways, through the codec.

    Args:
        seed: of its faults.
        loss: probability that a message is lost.
        doubled: probability that it comes twice.
        delay_s: longest delay; messages overtake each other.

    Attributes:
        unheard: inboxes of gateways whose heartbeats nobody has heard.
    """

    def __init__(
        self, *, seed: int = 0, loss: float = 0.0, doubled: float = 0.0, delay_s: float = 0.0
    ) -> None:
        self.fellows: dict[Topic, ResumeService] = {}
        self.unheard: set[Topic] = set()
        self.carried: list[Message] = []
        self.num_lost = 0
        self._random = random.Random(seed)
        self._loss, self._doubled, self._delay_s = loss, doubled, delay_s

    def publish_as(self, sender: Topic, sends: Sequence[tuple[Topic, Message]]) -> None:
        for topic, message in sends:
            data = encode(Envelope(sender, Incarnation(1), 1, message))
            self.carried.append(message)
            for _ in range(1 + (self._random.random() < self._doubled)):
                if self._random.random() < self._loss:
                    self.num_lost += 1
                    continue
                delay_s = self._random.random() * self._delay_s
                asyncio.get_running_loop().call_later(delay_s, self._deliver, topic, data)

    def _deliver(self, topic: Topic, data: bytes) -> None:
        envelope = decode(data)
        fellow = self.fellows.get(topic)
        if fellow is not None:
            assert isinstance(envelope.message, Resume | Resumed)
            fellow.on_message(time.monotonic(), envelope.sender, envelope.message)

    def kill(self, replica: str) -> None:
        """Nobody hears it any more, nor it anybody."""
        del self.fellows[gateway_inbox(replica)]


@asynccontextmanager
async def keeping(
    settings: GatewaySettings, replica: str = "g0", bus: MemoryBus | None = None
) -> AsyncIterator[ResumeService]:
    """What keeps the resumable streams of a gateway, with its clock."""
    inbox, bus = gateway_inbox(replica), bus or MemoryBus()
    service = ResumeService(
        settings,
        replica=replica,
        timers=TIMERS,
        publish=lambda sends: bus.publish_as(inbox, sends),
        may_exist=lambda _now, owner: owner not in bus.unheard,
    )
    bus.fellows[inbox] = service

    async def turn() -> None:
        while True:
            service.on_timer(time.monotonic())
            await asyncio.sleep(TIMERS.heartbeat_s / 2)

    clock = asyncio.create_task(turn())
    try:
        async with service:
            yield service
    finally:
        clock.cancel()
        await asyncio.gather(clock, return_exceptions=True)
