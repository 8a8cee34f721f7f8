"""One seed from start to verdict: clients under faults, healing, completion, and nothing left behind."""

from __future__ import annotations

from dataclasses import replace
from random import Random

from pipespec.planner.simulation.nodes import StageNode
from pipespec.protocol.ids import SessionId
from pipespec.protocol.rules import Rules
from sim.plan import Plan, draw_plan
from sim.world import DEFAULT_CHAIN, TIMERS, WINDOW, FaultyWorld, MoodyDevice, StageSpec, Violation

HEAL_S = 3.0
PROGRESS_S = 8.0
"""After healing, everything ends within this virtual time; a clean run takes about one second."""


def chain_of(random: Random) -> tuple[StageSpec, ...]:
    """Two to four stages, one or two replicas, good and bad drafts."""
    drafts = [
        StageSpec(random.uniform(0.001, 0.02), random.choice([0.0, 0.5, 0.8, 0.95]), random.choice([1, 1, 2]))
        for _ in range(random.choice([1, 2, 2, 3]))
    ]
    if random.random() < 0.3:
        drafts[0] = replace(drafts[0], is_model_free=True, lookahead=16)
    return (*drafts, StageSpec(0.03, 1.0, random.choice([1, 2])))


def run_seed(seed: int, *, rules: Rules | None = None, plan: Plan | None = None) -> FaultyWorld:
    """Run one seed.

    Raises:
        Violation: an invariant is broken; the message holds seed and plan.
    """
    random = Random(seed)
    chain = chain_of(random) if plan is None else DEFAULT_CHAIN
    names = [f"stage.{rank}.r{index}." for rank, spec in enumerate(chain) for index in range(spec.replicas)]
    plan = plan or draw_plan(random, [*names, "gateway.g0."], HEAL_S)
    world = FaultyWorld(seed, plan, chain=chain, rules=rules)
    try:
        _drive(world, random)
    except Violation as violation:
        raise Violation(f"seed {seed}: {violation}\n{plan}\n{chain}") from violation
    return world


def _drive(world: FaultyWorld, random: Random) -> None:
    sessions = []
    world.run(0.1)
    for _ in range(random.randint(2, 5)):
        stop_ids = tuple(random.randrange(997) for _ in range(random.choice([0, 0, 20])))
        sessions.append(
            world.open(
                num_prompt=random.choice([1, 5, 40]),
                max_tokens=random.randint(1, 48),
                seed=random.getrandbits(60),
                stop_ids=stop_ids,
            )
        )
        world.run(world.now + random.uniform(0, 0.5))
        _check_memory(world)
        if random.random() < 0.2:
            world.cancel(random.choice(sessions))
    while world.now < world.plan.heal_s:
        world.run(world.now + 0.1)
        _check_memory(world)
    finished = world.run(
        world.now + PROGRESS_S, done=lambda: all(client.end is not None for client in world.clients.values())
    )
    if not finished:
        stuck = [(len(c.received), len(c.expected)) for c in world.clients.values() if c.end is None]
        raise Violation(f"no end {PROGRESS_S} s after healing: tokens (received, expected) {stuck}")
    world.run(world.now + TIMERS.lease_s + 1.0)
    _check_leftovers(world)


def _caches(world: FaultyWorld) -> list[tuple[StageNode, set[SessionId]]]:
    """Stage replicas that run, with the sessions that their devices hold."""
    return [(n, set(n.device.caches)) for n in world.stages if isinstance(n.device, MoodyDevice)]


def _check_memory(world: FaultyWorld) -> None:
    """What a stage holds is bounded by what the gateway committed plus one window, and its tables by its sessions."""
    for node, caches in _caches(world):
        for session_id, session in node.core.sessions.items():
            owner = world.gateway.core.sessions.get(session_id)
            if owner is not None and len(session.claims) > owner.committed + WINDOW:
                raise Violation(f"{len(session.claims)} tokens held, {owner.committed} committed")
        if caches != set(node.core.sessions):
            raise Violation("caches and sessions differ")
        if node.core.num_remembered > 2 * len(world.clients):
            raise Violation(f"{node.core.num_remembered} closed or unknown sessions remembered")


def _check_leftovers(world: FaultyWorld) -> None:
    """A lease after the last session's end nobody holds anything."""
    if world.gateway.core.sessions:
        raise Violation("sessions left at the gateway")
    for node, caches in _caches(world):
        if node.core.sessions or caches:
            raise Violation(f"{len(node.core.sessions)} sessions left at {node.inbox.decode()}")
