"""Says why, in a sentence: demand, what it needs, which stage holds the others back, what is off, what waits."""

from __future__ import annotations

from collections.abc import Sequence

from pipespec.emulation.chain import emulation_of
from pipespec.ops.pipeline import StageSettings
from pipespec.planner.scaling.decision import Decision
from pipespec.planner.scaling.load import FleetLoad


def sentence(decision: Decision, load: FleetLoad, stages: Sequence[StageSettings]) -> str:
    """Of a decision whose other fields are set."""
    parts = [_demand(decision, load), _need(decision, stages)]
    parts += [f"{_name(stages, rank)} does not pay now" for rank in _switched_off(decision, load)]
    parts += decision.held
    return "; ".join(parts)


def _demand(decision: Decision, load: FleetLoad) -> str:
    refused = f" ({load.refused} refused)" if load.refused else ""
    at_goal = f"{decision.demand:.0f} at the goal's speed, room for {decision.forecast}"
    return f"{_count(decision.sessions, 'session')}{refused}, {at_goal}"


def _need(decision: Decision, stages: Sequence[StageSettings]) -> str:
    replicas = " + ".join(f"{decision.needed[rank]} of {_name(stages, rank)}" for rank in decision.chain)
    time = f"{decision.ms_per_token:.1f} ms per token of {decision.goal_ms:.1f} on average"
    if not decision.is_met:
        return f"the goal cannot be kept within the limits: {replicas} are nearly the best, {time}"
    slowest = (
        f", {_name(stages, decision.bottleneck)} sets the pace" if decision.bottleneck is not None else ""
    )
    return f"{replicas} do at least cost: {time}{slowest}"


def _switched_off(decision: Decision, load: FleetLoad) -> list[int]:
    return [
        rank
        for rank, use in enumerate(load.stages)
        if rank not in decision.chain and (use.asked or decision.replicas[rank])
    ]


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def _name(stages: Sequence[StageSettings], rank: int) -> str:
    name = emulation_of(stages[rank]).stands_for
    return f"stage {rank} ({name})" if name else f"stage {rank}"
