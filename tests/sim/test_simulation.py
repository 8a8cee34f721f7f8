"""The protocol under fire: exact, in order, once; progress after healing; bounded memory; nothing left behind.

A violation names its seed; ``run_seed(seed)`` reproduces it.
"""

from __future__ import annotations

from dataclasses import replace

import pytest

from pipespec.protocol.rules import Rules
from sim.plan import Cut, Plan
from sim.scenario import run_seed
from sim.world import DEFAULT_CHAIN, FaultyWorld, Violation

NUM_SEEDS, BLOCK = 600, 50


@pytest.mark.parametrize("first", range(0, NUM_SEEDS, BLOCK))
def test_no_seed_violates_an_invariant(first: int) -> None:
    for seed in range(first, first + BLOCK):
        run_seed(seed)


def test_a_lost_open_of_a_new_route_is_healed() -> None:
    """Found by simulation: ``sync`` without the epoch was answered with a state for ever, the route never came."""
    cut = Cut("gateway.g0.", "stage.2.r0.", 0.30, 1.0)
    world = FaultyWorld(
        5,
        Plan(heal_s=2.0, cuts=(cut,)),
        chain=(*DEFAULT_CHAIN[:1], replace(DEFAULT_CHAIN[1], replicas=2), DEFAULT_CHAIN[2]),
    )
    world.run(0.2)
    session = world.open(num_prompt=5, max_tokens=40, seed=9)
    world.run(0.31)
    gateway = world.gateway.core
    route = gateway.sessions[session].route
    world.leave(f"stage.1.{route[1]}.".encode())  # the route changes while the target cannot hear of it
    assert world.run(6.0, done=lambda: all(client.end is not None for client in world.clients.values()))
    assert gateway.counts["reroutes"] >= 1


@pytest.mark.parametrize("rule", ["dedup_by_position", "announce", "sync", "lease", "decode_alone"])
def test_turning_a_rule_off_is_noticed(rule: str) -> None:
    def run_all() -> None:
        for seed in range(60):
            run_seed(seed, rules=Rules(**{rule: False}))

    with pytest.raises(Violation):
        run_all()


def test_the_same_seed_gives_the_same_run() -> None:
    first, second = run_seed(11), run_seed(11)
    assert (first.now, first.messages) == (second.now, second.messages)
    assert [c.received for c in first.clients.values()] == [c.received for c in second.clients.values()]


def test_a_chain_of_good_drafts_needs_fewer_target_steps_than_tokens() -> None:
    world = FaultyWorld(1, Plan(heal_s=0.0), chain=DEFAULT_CHAIN)
    world.run(0.2)
    world.open(num_prompt=5, max_tokens=200, seed=9)
    assert world.run(60.0, done=lambda: all(c.end is not None for c in world.clients.values()))
    world.run(world.now + 0.1)
    target = next(node for node in world.stages if node.core.place.rank == 2)
    counters = target.core.totals()
    assert counters.steps - counters.prefill_steps < 200 * 0.6
