"""One case from start to verdict: clients under faults, healing, completion, and nothing left behind."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from pipespec.protocol.rules import Rules
from sim.clients import Violation
from sim.modes import case_of
from sim.plan import FOREVER, Case, dump_case
from sim.world import FaultyWorld

SLICE_S = 0.1
AGREEING = ("safety", "fork")
"""Modes in which everybody is well in the end."""


@dataclass(frozen=True)
class Verdict:
    """What a case that violates nothing was like.

    Attributes:
        took_s: virtual seconds until everyone was served.
        pauses_s: the longest of every session that a fault may have touched; in single-fault mode.
        faults: how often each class struck.
    """

    took_s: float
    sessions: int
    tokens: int
    messages: int
    said: int
    pauses_s: tuple[float, ...]
    faults: Counter[str]


def run_seed(mode: str, seed: int, *, rules: Rules | None = None) -> Verdict:
    """Run the case of a seed, see ``run_case``."""
    return run_case(case_of(mode, seed), rules=rules)


def run_case(case: Case, *, rules: Rules | None = None) -> Verdict:
    """Run a case.

    Raises:
        Violation: an invariant is broken, or a core has raised; the message holds the case and how to repeat it.
    """
    try:
        return _verdict(FaultyWorld(case, rules))
    except Exception as problem:
        raise Violation(f"{_told(problem)}\n{repeat(case)}\n{dump_case(case)}") from problem


def repeat(case: Case) -> str:
    """The command that runs the case of this seed again."""
    return f"make sim SIM_FLAGS='--mode {case.mode} --seed {case.seed}'"


def _told(problem: Exception) -> str:
    return str(problem) if isinstance(problem, Violation) else f"{type(problem).__name__}: {problem}"


def _verdict(world: FaultyWorld) -> Verdict:
    case, watch = world.case, world.watch
    last_s = max(case.plan.heal_s if not case.fault else 0.0, *(request.at_s for request in case.requests))
    while not (world.now >= last_s and world.all_served):
        world.run(world.now + SLICE_S)
        watch.check_tables(world.awake)
        if case.mode in AGREEING and world.now > case.settled_s + 2 * case.timers.dead_s:
            watch.check_agreement(world.gateways, world.awake)
        if world.now > last_s + case.patience_s:
            _give_up(world)
    took_s = world.now
    clients = list(watch.clients.values())
    world.run(max(world.now, case.settled_s) + case.longest_rest_s + 1.02 * case.timers.lease_s + 0.2)
    world.tick_awake()
    awake = world.awake
    watch.check_tables(awake)
    watch.check_leftovers(world.gateways, awake)
    watch.check_messages()
    pauses_s = tuple(client.longest_pause_s for client in clients)
    if max(pauses_s, default=0.0) > case.budget_s:
        raise Violation(
            f"{case.fault}: a client waited {max(pauses_s):.3f} s, the budget is {case.budget_s:.2f} s"
        )
    return Verdict(
        took_s=took_s,
        sessions=len(clients),
        tokens=sum(len(client.received) for client in clients),
        messages=world.messages,
        said=watch.said,
        pauses_s=pauses_s if case.budget_s < FOREVER else (),
        faults=world.faults,
    )


def _give_up(world: FaultyWorld) -> None:
    stuck = [
        f"{len(client.received)} of {client.request.max_tokens}"
        for client in world.watch.clients.values()
        if not client.is_over
    ]
    raise Violation(
        f"I5: no end {world.case.patience_s} s after healing: {', '.join(stuck)} tokens; {world.unserved} clients unserved"
    )
