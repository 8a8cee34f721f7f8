"""Every policy on every load; of those with something to tune, the one that turns out best: they know the load, ours does not."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import ceil

from benchmarks.autoscaling.loads import MEAN_TOKENS, Load
from benchmarks.autoscaling.policies import (
    Candidate,
    Fixed,
    on_fine_utilisation,
    on_sessions,
    on_utilisation,
    ours,
    unchanging,
)
from benchmarks.autoscaling.run import Cluster, Outcome, Run

PROMISED = 0.9
"""Share of the sessions that should keep the goal."""
_HARDLY = 0.01


@dataclass(frozen=True, slots=True)
class Row:
    """One policy under one load."""

    load: str
    policy: str
    outcome: Outcome


def compared(cluster: Cluster, loads: Sequence[Load], *, on_row: Callable[[Row], None]) -> list[Row]:
    """All rows.

    Args:
        cluster: that all run on.
        loads: to scale for.
        on_row: is told of each as it is there.
    """
    rows: list[Row] = []

    def add(load: Load, name: str, outcome: Outcome) -> None:
        rows.append(Row(load.name, name, outcome))
        on_row(rows[-1])

    pipeline, goal_ms = cluster.pipeline, cluster.goal_ms
    tuned: list[tuple[dict[str, Outcome], ...]] = []
    for load in loads:

        def played(candidates: Iterable[Candidate], load: Load = load) -> dict[str, Outcome]:
            return {one.name: Run(cluster, load, one.make()).play() for one in candidates}

        own = (
            ours(pipeline, goal_ms),
            ours(pipeline, goal_ms, "ours, no memory of surges", surge_wait_s=0.0),
        )
        usual = played(on_utilisation(pipeline))
        for name, outcome in {**played(own), **usual}.items():
            add(load, name, outcome)
        tuned.append(({**usual, **played(on_fine_utilisation(pipeline))}, played(on_sessions(pipeline))))
        for outcomes in tuned[-1]:
            add(load, f"{best(outcomes)} (best for this load)", outcomes[best(outcomes)])
        add(load, *_fewest(cluster, load))
    for family in zip(*tuned, strict=True):
        name = _one_for_all(family)
        for load, outcomes in zip(loads, family, strict=True):
            add(load, f"{name} (best for all)", outcomes[name])
    return rows


def best(outcomes: Mapping[str, Outcome]) -> str:
    """With hindsight: of those that keep the goal the one with the fewest GPU-hours, or else the one that keeps it best."""

    def badness(name: str) -> tuple[float, float]:
        kept = outcomes[name].kept_share
        return (0.0, outcomes[name].gpu_hours) if kept >= PROMISED else (1.0, -kept)

    return min(outcomes, key=badness)


def _one_for_all(tuned: Sequence[Mapping[str, Outcome]]) -> str:
    """The one that keeps the goal under most loads; of these, the one with the fewest GPU-hours."""

    def badness(name: str) -> tuple[int, float]:
        missed = sum(outcomes[name].kept_share < PROMISED for outcomes in tuned)
        return missed, sum(outcomes[name].gpu_hours for outcomes in tuned)

    return min(tuned[0], key=badness)


def _fewest(cluster: Cluster, load: Load) -> tuple[str, Outcome]:
    """The first fleet, all of it there from the beginning, that keeps the goal and refuses hardly anyone, of fleets that get larger."""
    streams = max(rate for _, rate in load.pieces) * MEAN_TOKENS * cluster.goal_ms / 1000
    least = ceil(streams / cluster.pipeline.target.max_sessions)  # fewer have no room for the peak
    for replicas in unchanging(cluster.pipeline, least):
        outcome = Run(cluster, load, Fixed(replicas), replicas=replicas).play()
        if outcome.kept_share >= PROMISED and outcome.refused <= _HARDLY * outcome.sessions:
            break
    return f"fixed {'+'.join(map(str, replicas))} (the peak)", outcome
