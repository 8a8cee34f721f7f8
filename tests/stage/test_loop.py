"""The stage's loop over a real link: it announces that it ends, works on while it drains, and frees what it held."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest

from bus.test_link import free_port
from pipespec.broker.forwarder import Forwarder
from pipespec.bus.link import BusLink
from pipespec.engine.suffix import SuffixEngine
from pipespec.ops.errors import OutOfMemory
from pipespec.ops.pipeline import BrokerSettings
from pipespec.protocol.ids import FLEET, Epoch, Rank, gateway_inbox
from pipespec.protocol.messages import (
    ChainIdentity,
    Close,
    EndReason,
    Envelope,
    Finished,
    Heartbeat,
    Open,
)
from pipespec.protocol.place import Place
from pipespec.protocol.sampling import Sampling
from pipespec.protocol.stage_replica import StageReplica
from pipespec.protocol.stage_session import StageLimits
from pipespec.protocol.timers import Timers
from pipespec.protocol.work import Engine, Outcome, Work, idle
from pipespec.stage.loop import StageLoop
from pipespec.stage.service import HUNG_S, _Readiness
from protocol.examples import SESSION, ids

TIMERS = Timers(heartbeat_s=0.05, dead_s=2.0, stall_s=10.0, lease_s=10.0, sync_s=0.025)
PLACE = Place(rank=Rank(0), replica="r0", num_stages=2)
OPENED = Open(
    SESSION,
    Epoch(0),
    ("r0", "t0"),
    ChainIdentity(b"w" * 16, b"t" * 16),
    ids(1, 2, 3, 1, 2),
    Sampling(max_tokens=20),
    (),
)


class Bench:
    """A suffix stage and somebody who watches the fleet and its gateway inbox."""

    def __init__(self, broker: BrokerSettings) -> None:
        engine = SuffixEngine(min_match=1)
        limits = StageLimits(
            lookahead=4, max_chunk=engine.max_chunk, context_len=engine.context_len, is_model_free=True
        )
        self.link = BusLink([broker], inbox=PLACE.inbox, heartbeat_s=3600)
        core = StageReplica(PLACE, limits, TIMERS)
        self.loop = StageLoop(core, engine, self.link, model="suffix", tick_s=0.02)
        self.watcher = BusLink([broker], inbox=gateway_inbox("g0"), topics=[FLEET])
        assert self.watcher.start()
        assert self.link.start()
        self.seen: list[Envelope] = []

    def turn_until(self, kind: type[object]) -> object:
        """Turn the loop until the watcher has heard a message of a kind."""
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline:
            self.loop.turn()
            self.seen += self.watcher.receive(0.0)
            for envelope in self.seen:
                if isinstance(envelope.message, kind):
                    return envelope.message
        raise AssertionError(f"no {kind.__name__} in {self.seen}")


@pytest.fixture
def bench() -> Iterator[Bench]:
    broker = BrokerSettings(publish_port=free_port(), subscribe_port=free_port())
    forwarder = Forwarder(
        publish_at=f"tcp://127.0.0.1:{broker.publish_port}",
        subscribe_at=f"tcp://127.0.0.1:{broker.subscribe_port}",
    )
    bench = Bench(broker)
    yield bench
    bench.link.close()
    bench.watcher.close()
    forwarder.stop()


def test_a_session_is_opened_worked_on_and_freed(bench: Bench) -> None:
    # The target's inbox is subscribed by nobody here: what the draft says is seen in its own log.
    bench.watcher.publish([(PLACE.inbox, OPENED)])
    deadline = time.monotonic() + 10
    while SESSION not in bench.loop.core.sessions or not bench.loop.core.sessions[SESSION].own:
        bench.loop.turn()
        assert time.monotonic() < deadline
    assert bench.loop.core.sessions[SESSION].claims.log.slice(0, 1) == ids(3)
    bench.watcher.publish([(PLACE.inbox, Close(SESSION, Epoch(0), EndReason.STOP))])
    finished = bench.turn_until(Finished)
    assert isinstance(finished, Finished)
    assert finished.counters.tokens >= 1
    assert bench.loop.core.sessions == {}


def test_the_end_is_announced_at_once(bench: Bench) -> None:
    bench.loop.drain(timeout_s=0.0)
    beat = bench.turn_until(Heartbeat)
    assert isinstance(beat, Heartbeat)
    assert beat.draining
    assert not beat.ready


def test_a_loop_that_hangs_is_not_ready_and_after_a_minute_not_alive(bench: Bench) -> None:
    stage = _Readiness(hung_s=15.0)
    assert (stage.is_alive(), stage.is_ready()) == (True, False)  # it loads
    stage.link, stage.loop = bench.link, bench.loop
    bench.loop.turn()
    assert (stage.is_alive(), stage.is_ready()) == (True, True)
    bench.loop.turned_s -= 20.0
    assert (stage.is_alive(), stage.is_ready()) == (True, False)
    bench.loop.turned_s -= HUNG_S
    assert (stage.is_alive(), stage.is_ready()) == (False, False)


def test_a_draining_replica_is_alive_and_not_ready(bench: Bench) -> None:
    stage = _Readiness(hung_s=15.0)
    stage.link, stage.loop = bench.link, bench.loop
    bench.loop.drain(timeout_s=0.0)
    assert (stage.is_alive(), stage.is_ready()) == (True, False)


class Tight:
    """A device with memory for so many tokens per step, and an engine on it."""

    def __init__(self, engine: Engine, *, most: int) -> None:
        self._engine = engine
        self._most = most

    def __getattr__(self, name: str) -> Any:
        return getattr(self._engine, name)

    def step(self, batch: Sequence[Work], *, meanwhile: Callable[[], None] = idle) -> list[Outcome]:
        if sum(len(work.tokens) for work in batch) > self._most:
            raise OutOfMemory("injected")
        return self._engine.step(batch, meanwhile=meanwhile)


def test_a_step_without_memory_is_tried_again_in_smaller_ones(bench: Bench) -> None:
    bench.loop._engine = Tight(bench.loop._engine, most=1)
    bench.watcher.publish([(PLACE.inbox, OPENED)])
    deadline = time.monotonic() + 10
    while SESSION not in bench.loop.core.sessions or not bench.loop.core.sessions[SESSION].own:
        bench.loop.turn()
        assert time.monotonic() < deadline
    assert bench.loop.core.sessions[SESSION].claims.log.slice(0, 1) == ids(3)
    assert bench.loop.step_size.num_too_large == 2  # five tokens, then two


def test_a_device_without_memory_for_a_single_token_ends_the_process_loudly(bench: Bench) -> None:
    bench.loop._engine = Tight(bench.loop._engine, most=0)
    bench.watcher.publish([(PLACE.inbox, OPENED)])
    with pytest.raises(OutOfMemory):
        bench.turn_until(Finished)
