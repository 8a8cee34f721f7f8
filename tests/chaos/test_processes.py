"""Processes killed, frozen, hung, ended and restarted under load, with the timers that the bounds were made for."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import pytest

from chaos import faults, fleets
from chaos.clients import Stream
from chaos.fire import EmulatedOracle, Row, Shot, repeat_emulated, shoot
from chaos.fleet import Fleet, started
from chaos.report import Report
from chaos.skew import both_languages, check_joined, is_refused

pytestmark = [pytest.mark.chaos, pytest.mark.e2e, pytest.mark.timeout(900)]
P_S = 0.1
"""What the emulated target needs to read a session again."""
LEASE_S = 4.0
ROWS = (
    Row("A1", "draft replica SIGKILL", 0.5, faults.killed(0)),
    Row("A2", "all drafts dead", 0.5, faults.all_but_the_target_killed),
    Row("A3", "target SIGKILL mid-stream", 1 + P_S, faults.killed(-1)),
    Row("A4", "target SIGSTOP 3 s, then stale results", 1 + P_S, faults.target_frozen, num_tokens=330),
    Row(
        "A5",
        "target thread hung, process alive",
        1.0,
        faults.target_hung,
        what="until the gateway gives it no more work",
    ),
    Row("A12", "inbox of a draft flooded beyond every mark", None, faults.draft_flooded),
    Row(
        "A13",
        "target replica joins mid-generation",
        1.0,
        faults.taking_in(fleets.LATE),
        what="from ready to its first word",
    ),
    Row(
        "A14",
        "all brokers SIGKILL, restarted in place",
        1.0,
        faults.all_brokers_restarted,
        what="from ready to the next token",
    ),
    Row("A14/1", "one of two brokers SIGKILL", None, faults.one_broker_killed),
    Row("A18", "rolling restart of drafts and targets", None, faults.rolling_restart, num_tokens=120),
    Row("A20", "SIGTERM to a target replica", 1 + P_S, faults.ended(-1)),
    Row(
        "A21",
        f"gateway SIGKILL (lease {LEASE_S:g} s)",
        LEASE_S + 0.5,
        faults.gateway_killed,
        num_tokens=420,
        what="until the stages have freed its sessions",
    ),
    Row("A32", "SIGTERM to a draft and a target at once", 1 + P_S, faults.ended(0, -1)),
)


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """All of them."""
    fleet = fleets.processes(tmp_path_factory.mktemp("processes"))
    with started(fleet, except_for=fleets.spare(fleet)):
        yield fleet


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.row)
async def test_no_token_changes(row: Row, fleet: Fleet, report: Report, repetitions: int) -> None:
    report.add(await repeat_emulated(row, fleet, repetitions=repetitions))


async def test_target_replicas_that_disagree_commit_one_branch(
    fleet: Fleet, report: Report, repetitions: int
) -> None:
    """A16: every token is a target's choice for what was committed before it, none is lost or said twice."""
    languages = both_languages(fleet)
    mixed: list[Stream] = []

    def check(stream: Stream) -> None:
        if check_joined(stream, languages):
            mixed.append(stream)

    @asynccontextmanager
    async def moved_twice(shot: Shot) -> AsyncIterator[None]:
        """From the first two to the one that disagrees, and back."""
        first = fleet.stages(-1)
        other = fleet.stage(-1, fleets.FORKED)
        other.start()
        await other.until_ready()
        for victim in first[:2]:
            victim.kill()
        await asyncio.sleep(1.5)
        first[0].start()
        await first[0].until_ready()
        await asyncio.sleep(1)
        other.kill()
        yield
        first[1].start()
        shot.notes["forked_segments"] = sum(fleet.count("forked", name) for name in fleet.gateways)

    row = Row("A16", "target replicas disagree", None, moved_twice, num_tokens=500)
    measured = row.measured(fleet, kind="emulated")
    oracle = EmulatedOracle(fleet)
    for turn in range(repetitions):
        prompts = [f"A16, turn {turn}, session {index}" for index in range(row.num_streams)]
        measured.add(*await shoot(row, fleet, oracle, prompts=prompts, check=check))
    assert mixed, "no stream was told by both"
    report.add(measured)


@pytest.mark.parametrize("replica", [fleets.SKEWED, fleets.OTHER_WEIGHTS])
async def test_a_skewed_replica_is_refused_at_the_door(replica: str, fleet: Fleet, report: Report) -> None:
    """A17: it never gets work, and the gateway's log names both digests."""

    @asynccontextmanager
    async def skewed_joins(shot: Shot) -> AsyncIterator[None]:
        newcomer = fleet.stage(-1, replica)
        newcomer.start()
        await newcomer.until_ready()
        ready_s = time.monotonic()
        await is_refused(fleet, replica)
        shot.measured_s = time.monotonic() - ready_s
        yield
        received = newcomer.metrics().get('pipespec_bus_received_messages_total{kind="open"}', 0.0)
        assert received == 0
        newcomer.kill()

    kind = "tokenizer" if replica == fleets.SKEWED else "weights"
    row = Row("A17", f"target of other {kind} joins", None, skewed_joins, what="from ready to its refusal")
    measured = row.measured(fleet, kind="emulated")
    prompts = [f"A17 {kind}, session {index}" for index in range(row.num_streams)]
    measured.add(*await shoot(row, fleet, EmulatedOracle(fleet), prompts=prompts))
    report.add(measured)
