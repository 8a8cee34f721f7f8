"""Faults of processes: killed, frozen, hung, ended, restarted, flooded.

They work on any fleet: ``-1`` is its target. Each leaves the fleet as it was.
"""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager

from chaos.clients import DONE
from chaos.fire import Fault, Shot
from chaos.fleet import Fleet
from chaos.service import PATIENCE_S, Service, until
from pipespec.bus.link import BusLink
from pipespec.ops.pipeline import BrokerSettings
from pipespec.protocol.ids import (
    Digest,
    Epoch,
    Position,
    Rank,
    SessionId,
    TokenId,
    Topic,
    observer_inbox,
    stage_inbox,
)
from pipespec.protocol.messages import Segment, SegmentKind

FREEZE_S = 3.0


def killed(rank: int, replica: str = "r0") -> Fault:
    """SIGKILL to one replica."""

    @asynccontextmanager
    async def fault(shot: Shot) -> AsyncIterator[None]:
        victim, before = shot.fleet.stage(rank, replica), _num_reroutes(shot.fleet)
        victim.kill()
        yield
        assert _num_reroutes(shot.fleet) > before
        victim.start()

    return fault


def _num_reroutes(fleet: Fleet) -> float:
    return sum(fleet.count("reroutes", name) for name in fleet.gateways)


@asynccontextmanager
async def all_but_the_target_killed(shot: Shot) -> AsyncIterator[None]:
    """Every stage before the target dies; the gateways say so, and a new stream begins at once."""
    fleet = shot.fleet
    victims = [victim for rank in range(len(fleet.pipeline.stages) - 1) for victim in fleet.stages(rank)]
    for victim in victims:
        victim.kill()
    (fresh,) = shot.clients.start(["after the drafts"], 20)
    shot.streams.append(fresh)
    await until(lambda: fleet.gateway().metrics().get("pipespec_gateway_degraded") == 1.0)
    yield
    shot.notes["first_token_s"] = fresh.came_s[0] - fresh.asked_s
    for victim in victims:
        victim.start()
    await fleet.whole()
    await until(lambda: fleet.gateway().metrics().get("pipespec_gateway_degraded") == 0.0)


@asynccontextmanager
async def target_frozen(shot: Shot) -> AsyncIterator[None]:
    """SIGSTOP for 3 s, then it goes on with what it had in hand, which nobody wants any more."""
    fleet = shot.fleet
    before = sum(fleet.count("old_epoch", name) for name in fleet.gateways)
    victim = fleet.stage(-1)
    victim.signal(signal.SIGSTOP)
    await asyncio.sleep(FREEZE_S)
    assert shot.clients.num_running > 0
    victim.signal(signal.SIGCONT)
    yield

    def is_counted() -> bool:
        return sum(fleet.count("old_epoch", name) for name in fleet.gateways) > before

    await until(is_counted)
    shot.notes["stale_segments"] = sum(fleet.count("old_epoch", name) for name in fleet.gateways) - before


@asynccontextmanager
async def target_hung(shot: Shot) -> AsyncIterator[None]:
    """The thread that computes stands still; the process lives and beats."""
    fleet, victim = shot.fleet, shot.fleet.stage(-1)
    victim.signal(signal.SIGUSR1)
    began_s = time.monotonic()
    key = f'pipespec_gateway_usable_replicas{{stage="{len(fleet.pipeline.stages) - 1}"}}'
    await until(lambda: fleet.gateway().metrics().get(key) == 1.0)
    shot.measured_s = time.monotonic() - began_s
    assert victim.probe("/livez") == 200
    yield
    shot.notes["longest_pause_s"] = max(stream.longest_pause_s(began_s) for stream in shot.streams)
    victim.signal(signal.SIGUSR2)


@asynccontextmanager
async def one_broker_killed(shot: Shot) -> AsyncIterator[None]:
    """One of several."""
    victim = shot.fleet.broker()
    victim.kill()
    yield
    victim.start()


@asynccontextmanager
async def all_brokers_restarted(shot: Shot) -> AsyncIterator[None]:
    """Every broker dies and comes back at the same address; nobody can say anything meanwhile."""
    for victim in shot.fleet.brokers:
        victim.kill()
        victim.start()
    for victim in shot.fleet.brokers:
        await victim.until_ready()
    shot.healed_s = time.monotonic()
    yield


@asynccontextmanager
async def gateway_killed(shot: Shot) -> AsyncIterator[None]:
    """The streams of g0 are cut and never look complete; its sessions end with their lease; g1 goes on."""
    fleet = shot.fleet
    shot.lost.append("g0")
    fleet.gateway("g0").kill()
    killed_s = time.monotonic()
    ranks = range(len(fleet.pipeline.stages))
    others = [stream for stream in shot.streams if stream.gateway == "g1"]
    assert 0 < len(others) < len(shot.streams)
    await until(lambda: all(fleet.num_sessions(rank) <= len(others) for rank in ranks))
    shot.measured_s = time.monotonic() - killed_s
    assert shot.clients.num_running == len(others), "the other gateway's streams must outlast the lease"
    yield
    shot.notes["others_longest_pause_s"] = max(stream.longest_pause_s(killed_s) for stream in others)
    fleet.gateway("g0").start()
    await fleet.whole()
    again = shot.clients.start([stream.prompt for stream in shot.streams if stream not in others], 20)
    await shot.clients.finish()
    for before, stream in zip([s for s in shot.streams if s not in others], again, strict=True):
        assert stream.ends == [DONE]
        assert stream.text.startswith(before.text[:20])


def ended(*ranks: int) -> Fault:
    """SIGTERM to the first replica of some stages at once; each goes with status 0 and without a session."""

    @asynccontextmanager
    async def fault(shot: Shot) -> AsyncIterator[None]:
        victims = [shot.fleet.stage(rank) for rank in ranks]
        began_s = time.monotonic()
        statuses = await asyncio.gather(*(victim.end() for victim in victims))
        shot.notes["gone_s"] = time.monotonic() - began_s
        assert statuses == [0] * len(victims)
        assert shot.clients.num_running > 0
        yield
        for victim in victims:
            _check_nothing_cut(victim)
            victim.start()

    return fault


@asynccontextmanager
async def rolling_restart(shot: Shot) -> AsyncIterator[None]:
    """Replica by replica of every stage that has several, as a StatefulSet does it; new streams begin all the time."""
    fleet = shot.fleet
    for rank in range(len(fleet.pipeline.stages)):
        members = fleet.stages(rank)
        for victim in members if len(members) > 1 else ():
            assert await victim.end() == 0
            _check_nothing_cut(victim)
            victim.start()
            fresh = [stream.prompt for stream in shot.streams[:2]]
            shot.streams += shot.clients.start(fresh, shot.streams[0].num_tokens)
            await victim.until_ready()
    shot.notes["streams"] = len(shot.streams)
    yield


def _check_nothing_cut(service: Service) -> None:
    (*_, line) = [line for line in service.said().splitlines() if "stage.stopping" in line]
    assert "sessions_cut=0" in line.replace(" ", ""), line


def taking_in(replica: str) -> Fault:
    """A target replica joins; what counts is the time from its readiness to its first word."""

    @asynccontextmanager
    async def fault(shot: Shot) -> AsyncIterator[None]:
        fleet, newcomer = shot.fleet, shot.fleet.stage(-1, replica)
        newcomer.start()
        asking = asyncio.create_task(_keep_asking(shot))
        await newcomer.until_ready()
        ready_s = time.monotonic()
        await until(lambda: newcomer.metrics().get("pipespec_stage_tokens_total", 0.0) > 0)
        shot.measured_s = time.monotonic() - ready_s
        asking.cancel()
        await asyncio.gather(asking, return_exceptions=True)
        yield
        assert await newcomer.end() == 0
        await fleet.whole()

    return fault


async def _keep_asking(shot: Shot) -> None:
    """Two short streams, again and again, until cancelled."""
    turn = 0
    while True:
        fresh = shot.clients.start([f"turn {turn}, {index}" for index in range(2)], 8)
        shot.streams += fresh
        while not all(stream.ends for stream in fresh):
            await asyncio.sleep(0.01)
        turn += 1


@asynccontextmanager
async def draft_flooded(shot: Shot) -> AsyncIterator[None]:
    """A draft's loop stands still while its inbox is flooded beyond every high-water mark; then it reads on."""
    victim = shot.fleet.stage(0)
    victim.signal(signal.SIGUSR1)

    def has_overflowed() -> bool:
        return victim.metrics().get("pipespec_bus_overflowed_messages_total", 0.0) > 0

    await asyncio.to_thread(flood, shot.fleet.pipeline.brokers, stage_inbox(Rank(0), "r0"), has_overflowed)
    victim.signal(signal.SIGUSR2)
    yield
    shot.notes["overflowed"] = victim.metrics()["pipespec_bus_overflowed_messages_total"]


def flood(brokers: Sequence[BrokerSettings], inbox: Topic, is_enough: Callable[[], bool]) -> None:
    """Publish messages of no use to an inbox, in bursts that no queue on the way holds, until it is enough."""
    link = BusLink(brokers, inbox=observer_inbox("flood"))
    segment = Segment(
        SegmentKind.SPECULATION, SessionId(bytes(16)), Epoch(0), Position(0), Digest(bytes(16)), (TokenId(5),)
    )
    until_s = time.monotonic() + PATIENCE_S
    try:
        assert link.start(timeout_s=PATIENCE_S)
        while not is_enough():
            assert time.monotonic() < until_s, "the inbox never overflowed"
            wanted = link.sent["speculation"] + 2000
            link.publish([(inbox, segment)] * 2000)
            while link.sent["speculation"] < wanted:
                time.sleep(0.005)
    finally:
        link.close()
