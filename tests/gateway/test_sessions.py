"""The gateway's backend without a bus: what it tells the fleet, and how it leaves."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from pipespec.gateway.sessions import PipelineBackend
from pipespec.ops.errors import Overloaded, Unavailable
from pipespec.ops.pipeline import TimerSettings
from pipespec.protocol.fleet import Fleet
from pipespec.protocol.gateway_replica import GatewayReplica
from pipespec.protocol.ids import Member, Rank, Topic
from pipespec.protocol.messages import StageCounters
from pipespec.protocol.place import Place
from pipespec.protocol.sampling import Sampling
from pipespec.protocol.streams import Resume, Resumed
from pipespec.protocol.timers import Timers
from protocol.examples import envelope, ids

TARGET = Place(
    rank=Rank(0), replica="t-0", num_stages=1, weights=b"w" * 16, tokenizer=b"t" * 16, vocab_size=99
)
SAMPLING = Sampling(max_tokens=4)


@pytest.fixture
def endings() -> set[Member]:
    """What the cluster says."""
    return set()


@pytest_asyncio.fixture
async def backend(endings: set[Member]) -> AsyncIterator[PipelineBackend]:
    """One that has heard of a target, with room for two sessions."""
    timers = Timers.of(TimerSettings())
    core = GatewayReplica(Fleet(num_stages=1, tokenizer=TARGET.tokenizer, timers=timers), timers)
    async with PipelineBackend(
        core, replica="g7", max_sessions=2, tick_s=0.01, endings=lambda: frozenset(endings)
    ) as backend:
        beat = TARGET.heartbeat(
            model="m", context_len=99, draining=False, turn=1, sessions=0, counters=StageCounters()
        )
        core.fleet.on_heartbeat(time.monotonic(), beat, TARGET.inbox)
        yield backend


async def test_its_heartbeat_says_what_clients_ask_for_and_get(backend: PipelineBackend) -> None:
    await backend.open(prompt=ids(1), sampling=SAMPLING)
    await backend.open(prompt=ids(1), sampling=SAMPLING)
    with pytest.raises(Overloaded):
        await backend.open(prompt=ids(1), sampling=SAMPLING)
    beat = backend.heartbeat()
    assert (beat.replica, beat.draining, beat.sessions, beat.max_sessions, beat.refused) == (
        "g7",
        False,
        2,
        2,
        1,
    )


async def test_while_load_balancers_hear_of_it_it_is_not_ready_and_still_takes_sessions(
    backend: PipelineBackend,
) -> None:
    draining = asyncio.create_task(backend.drain(delay_s=60.0, timeout_s=0.0))
    await asyncio.sleep(0)
    assert not backend.is_ready
    assert backend.heartbeat().draining
    await backend.open(prompt=ids(1), sampling=SAMPLING)
    draining.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await draining


async def test_after_the_delay_new_sessions_are_refused_with_the_reason(backend: PipelineBackend) -> None:
    await backend.drain(timeout_s=0.0)
    with pytest.raises(Unavailable, match="shutting down"):
        await backend.open(prompt=ids(1), sampling=SAMPLING)


async def test_a_pod_that_the_cluster_takes_away_gets_no_session_before_it_says_so_itself(
    backend: PipelineBackend, endings: set[Member]
) -> None:
    assert backend.core.fleet.target(time.monotonic()) is not None
    endings.add((Rank(0), "t-0"))
    while backend.core.fleet.target(time.monotonic()) is not None:
        await asyncio.sleep(0.01)
    with pytest.raises(Unavailable, match="no target"):
        await backend.open(prompt=ids(1), sampling=SAMPLING)


async def test_what_another_gateway_says_reaches_who_keeps_the_streams(backend: PipelineBackend) -> None:
    heard: list[object] = []
    turned = asyncio.Event()

    class Listener:
        def on_message(self, now: float, sender: Topic, message: Resume | Resumed) -> None:
            heard.extend((sender, message))

        def on_timer(self, now: float) -> None:
            turned.set()

    backend.attach_fellows(Listener())
    said = envelope("resume")
    backend.core.on_envelope(time.monotonic(), said)
    backend._carry_out()
    assert heard == [said.sender, said.message]
    await asyncio.wait_for(turned.wait(), 60)
