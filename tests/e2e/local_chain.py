"""A whole pipeline inside one test process: real sockets, real engines, one thread per stage.

Faster to start than processes and easier to look into; ``test_processes.py`` runs the same services for real.
"""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from pipespec.broker.forwarder import Forwarder
from pipespec.bus.link import BusLink
from pipespec.engine.load import load_engine
from pipespec.gateway.gate import Limits
from pipespec.gateway.sessions import PipelineBackend
from pipespec.ops.pipeline import BrokerSettings, Pipeline, StageSettings, TimerSettings
from pipespec.protocol.fleet import Fleet
from pipespec.protocol.gateway_replica import GatewayReplica
from pipespec.protocol.ids import FLEET, TokenId, gateway_inbox
from pipespec.protocol.messages import EndReason
from pipespec.protocol.sampling import Sampling
from pipespec.protocol.timers import Timers
from pipespec.stage.service import assemble

TIMERS = TimerSettings(heartbeat_ms=50, dead_ms=20_000, stall_ms=30_000)


def free_port() -> int:
    """A port that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


async def eventually(condition: Callable[[], bool], *, timeout_s: float = 30.0) -> None:
    """Poll until the condition holds; it is about other threads, which no event of this loop tells."""
    async with asyncio.timeout(timeout_s):
        while not condition():
            await asyncio.sleep(0.02)


@dataclass
class Generated:
    """What a session gave."""

    ids: list[TokenId] = field(default_factory=list)
    starts: list[int] = field(default_factory=list)
    end: EndReason | None = None


class StageThread:
    """One stage replica on a thread of its own."""

    def __init__(self, pipeline: Pipeline, rank: int) -> None:
        loaded = load_engine(pipeline.stages[rank], later=pipeline.stages[rank + 1 :])
        self.tokenizer = loaded.tokenizer
        self.link, self.loop = assemble(pipeline, rank, "r0", loaded)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"stage-{rank}")

    def start(self) -> None:
        """Join the bus and turn."""
        assert self.link.start(heartbeat=self.loop.heartbeat)
        self._thread.start()

    def _run(self) -> None:
        while not self._stop.is_set():
            self.loop.turn()

    def stop(self) -> None:
        """Stop turning and leave the bus."""
        self._stop.set()
        self._thread.join(timeout=60)
        self.link.close()


class LocalChain:
    """Broker(s), stages and a gateway backend, all here."""

    def __init__(self, stages: Sequence[StageSettings], *, num_brokers: int = 1) -> None:
        brokers = [
            BrokerSettings(publish_port=free_port(), subscribe_port=free_port()) for _ in range(num_brokers)
        ]
        self.forwarders = [
            Forwarder(
                publish_at=f"tcp://127.0.0.1:{broker.publish_port}",
                subscribe_at=f"tcp://127.0.0.1:{broker.subscribe_port}",
            )
            for broker in brokers
        ]
        pipeline = Pipeline(stages=tuple(stages), brokers=tuple(brokers), timers=TIMERS)
        timers = Timers.of(TIMERS)
        self.stages = [StageThread(pipeline, rank) for rank in range(len(stages))]
        fleet = Fleet(num_stages=len(stages), tokenizer=self.stages[-1].tokenizer, timers=timers)
        self.backend = PipelineBackend(
            GatewayReplica(fleet, timers), replica="g0", limits=Limits(sessions=64), tick_s=0.025
        )
        self._link = BusLink(brokers, inbox=gateway_inbox("g0"), topics=[FLEET], on_news=self.backend.on_news)
        self.backend.attach(self._link)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[LocalChain]:
        """Everything up and every stage known to the gateway; everything down afterwards."""
        fleet = self.backend.core.fleet
        try:
            async with self.backend:
                assert await asyncio.to_thread(self._link.start)
                for stage in self.stages:
                    await asyncio.to_thread(stage.start)
                await eventually(lambda: len(fleet.living(self.backend.turned_s)) == len(self.stages))
                yield self
        finally:
            await asyncio.to_thread(self._stop)

    def _stop(self) -> None:
        for stage in self.stages:
            stage.stop()
        self._link.close()
        for forwarder in self.forwarders:
            forwarder.stop()

    async def generate(
        self, prompt: Sequence[int], sampling: Sampling, *, speculate: bool = True
    ) -> Generated:
        """One session from start to end."""
        ids = tuple(TokenId(token) for token in prompt)
        stream = await self.backend.open(prompt=ids, sampling=sampling, speculate=speculate)
        generated = Generated()
        async for tokens in stream:
            generated.starts.append(tokens.start)
            generated.ids.extend(tokens.ids)
        generated.end = stream.end
        self.stats = await stream.stats()
        return generated
