"""The protocol under fire: exact, in order, once; progress after healing; bounded memory; nothing left behind.

A violation tells its seed, its case and the command that repeats it. ``make sim`` runs more of the same.
"""

from __future__ import annotations

from dataclasses import replace

import pytest

from sim.clients import Violation
from sim.modes import MODES, case_of
from sim.plan import Case, Plan, Request, Restart, StageSpec, dump_case, load_case
from sim.regressions import kept
from sim.scenario import run_case, run_seed
from sim.single import FAULTS
from sim.world import FaultyWorld

SEEDS = {"safety": 200, "core": 120, "fork": 80, "single": 40}
BLOCK = 20
CHAIN = (StageSpec(0.004, 0.7), StageSpec(0.012, 0.85), StageSpec(0.04, 1.0))


@pytest.mark.parametrize(
    ("mode", "first"), [(mode, first) for mode, seeds in SEEDS.items() for first in range(0, seeds, BLOCK)]
)
def test_no_seed_violates_an_invariant(mode: str, first: int) -> None:
    for seed in range(first, first + BLOCK):
        run_seed(mode, seed)


@pytest.mark.parametrize(("why", "case"), kept(), ids=lambda value: value if isinstance(value, str) else "")
def test_what_once_failed_holds(why: str, case: Case) -> None:
    assert why
    run_case(case)


@pytest.mark.parametrize("mode", MODES)
def test_the_same_seed_gives_the_same_run(mode: str) -> None:
    assert run_seed(mode, 11) == run_seed(mode, 11)


@pytest.mark.parametrize("mode", MODES)
def test_a_case_that_was_written_down_is_the_same_case(mode: str) -> None:
    case = case_of(mode, 4)
    assert load_case(dump_case(case)) == case


def test_every_class_of_fault_strikes_in_some_seed() -> None:
    struck = {
        fault for seed in range(60) for fault, times in run_seed("safety", seed).faults.items() if times
    }
    assert struck >= {
        "cancelled",
        "clock_leapt",
        "cut",
        "delayed",
        "dropped",
        "duplicated",
        "flipped",
        "found_malformed",
        "frozen",
        "gateway_crashed",
        "hung",
        "joined_with_other_tokenizer",
        "joined_with_other_weights",
        "lost_at_join",
        "misread",
        "overflowed",
        "replayed",
        "slowed",
        "stage_crashed",
    }


def test_a_pause_beyond_the_budget_of_a_single_fault_is_a_violation() -> None:
    hard = replace(case_of("single", list(FAULTS).index("target_dead")), budget_s=0.05)
    with pytest.raises(Violation, match="budget"):
        run_case(hard)


def test_a_violation_tells_the_case_and_how_to_repeat_it() -> None:
    case = replace(case_of("core", 3), patience_s=-10.0)
    with pytest.raises(Violation, match="I5") as caught:
        run_case(case)
    told, command, written = str(caught.value).splitlines()
    assert "I5" in told
    assert "--mode core --seed 3" in command
    assert load_case(written) == case


def test_a_dying_gateway_takes_its_sessions_along_and_leaves_another_gateways_alone() -> None:
    plan = Plan(heal_s=2.0, restarts=(Restart("gateway.g0.", 0.5, 0.3),))
    requests = tuple(
        Request(at_s=0.2 + 0.01 * index, gateway=index % 2, num_prompt=5, max_tokens=40, seed=index)
        for index in range(4)
    )
    retry = Request(at_s=1.0, gateway=0, num_prompt=5, max_tokens=10, seed=9)
    case = Case("safety", 1, CHAIN, 2, plan, (*requests, retry))
    world = FaultyWorld(case)
    while not world.all_served or world.now < 2.0:
        world.run(world.now + 0.1)
    clients = list(world.watch.clients.values())
    assert [client.is_cut for client in clients] == [True, False, True, False, False]
    assert all(client.is_complete for client in clients if not client.is_cut)
    world.run(world.now + case.timers.lease_s + 0.3)
    assert not any(node.core.sessions for node in world.stages)


def test_a_chain_of_good_drafts_needs_fewer_target_steps_than_tokens() -> None:
    request = Request(at_s=0.2, gateway=0, num_prompt=5, max_tokens=200, seed=9)
    world = FaultyWorld(Case("safety", 1, CHAIN, 1, Plan(heal_s=0.0), (request,)))
    while not world.all_served:
        world.run(world.now + 0.1)
    world.run(world.now + 0.1)
    target = next(node for node in world.stages if node.core.place.rank == 2)
    counters = target.core.totals()
    assert counters.steps - counters.prefill_steps < 200 * 0.6
