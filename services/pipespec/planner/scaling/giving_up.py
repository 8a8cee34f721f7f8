"""Gives replicas up with care: not while others load that are to take over, not many at once, never below what holds the sessions."""

from __future__ import annotations

from collections.abc import Sequence

from pipespec.ops.pipeline import StageSettings
from pipespec.planner.scaling.cooldown import Replicas
from pipespec.planner.scaling.load import FleetLoad, StageUse

_AT_ONCE = 4
"""A quarter of a stage's replicas, and at least one, may drain at a time."""


def limited(
    load: FleetLoad, stages: Sequence[StageSettings], *, needed: Replicas, steadied: Replicas
) -> tuple[Replicas, tuple[str, ...]]:
    """What to ask for, and what holds it back, a phrase each.

    Args:
        load: now.
        stages: settings by rank.
        needed: by the load.
        steadied: what cool-downs leave of it; a stage may keep more, never less.
    """
    loading = [rank for rank, use in enumerate(load.stages) if use.ready < min(use.asked, needed[rank])]
    replicas: list[int] = []
    held: list[str] = []
    for rank, (use, wanted) in enumerate(zip(load.stages, steadied, strict=True)):
        number, hold = wanted, ""
        if wanted < use.asked:
            others = [other for other in loading if other != rank]
            number, hold = _given_up(use, wanted, stages[rank], refused=load.refused, loading=others)
        elif wanted != needed[rank]:
            hold = f"cool-down keeps {wanted}, needed are {needed[rank]}"
        if hold:
            held.append(f"stage {rank}: {hold}")
        replicas.append(_allowed(number, stages[rank]))
    return tuple(replicas), tuple(held)


def _given_up(
    use: StageUse, wanted: int, stage: StageSettings, *, refused: int, loading: list[int]
) -> tuple[int, str]:
    """Replicas of a stage that has too many, and why not fewer."""
    if refused:
        return use.asked, "nothing is given up while requests are refused"
    if loading:
        return use.asked, f"nothing is given up while stage {', '.join(map(str, loading))} loads"
    if use.draining:
        return use.asked, f"{use.draining} drain already"
    holding = -(-use.sessions // stage.max_sessions) if wanted else 0
    step = -(-use.asked // _AT_ONCE) if use.sessions else use.asked
    number = max(wanted, holding, use.asked - step)
    return number, f"{wanted} later, a quarter at a time" if number > wanted else ""


def _allowed(number: int, stage: StageSettings) -> int:
    if stage.scaling is None:
        return number
    return min(max(number, stage.scaling.min_replicas), stage.scaling.max_replicas)
