"""The policies that are compared: ours, Kubernetes' HPA on two metrics, and a fleet that never changes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import product
from typing import Any

from benchmarks.autoscaling.hpa import Hpa, by_sessions, by_utilisation
from benchmarks.autoscaling.run import Policy

from pipespec.ops.cluster import AutoscalerSettings
from pipespec.ops.pipeline import Pipeline
from pipespec.planner.scaling.load import FleetLoad
from pipespec.planner.scaling.scaler import Scaler

UTILISATIONS = (0.5, 0.7, 0.8, 0.9)
DRAFT_UTILISATIONS = (0.7, 0.88)
TARGET_UTILISATIONS = (0.84, 0.86, 0.88)
DRAFT_SESSIONS = (16.0, 64.0)
TARGET_SESSIONS = (6.0, 8.0, 12.0, 16.0, 24.0)


@dataclass(frozen=True, slots=True)
class Candidate:
    """A policy with its settings.

    Attributes:
        name: for tables.
        make: a fresh one.
    """

    name: str
    make: Callable[[], Policy]


class Ours:
    """The autoscaler.

    Args:
        pipeline: that it scales.
        settings: of the autoscaler.
    """

    def __init__(self, pipeline: Pipeline, **settings: Any) -> None:
        self._scaler = Scaler(pipeline, AutoscalerSettings(**settings))

    def decide(self, load: FleetLoad) -> tuple[int, ...]:
        """Replicas to ask for, by rank."""
        return self._scaler.decide(load).replicas


@dataclass(frozen=True, slots=True)
class Fixed:
    """Always the same replicas."""

    replicas: tuple[int, ...]

    def decide(self, load: FleetLoad) -> tuple[int, ...]:
        """Replicas to ask for, by rank."""
        del load
        return self.replicas


def ours(pipeline: Pipeline, goal_ms: float, name: str = "ours", **settings: Any) -> Candidate:
    """The autoscaler with the defaults, but for what is given."""
    return Candidate(name, lambda: Ours(pipeline, goal_ms=goal_ms, **settings))


def on_utilisation(pipeline: Pipeline) -> Iterator[Candidate]:
    """HPA on busy shares, at usual targets."""
    for target in UTILISATIONS:
        yield Candidate(
            f"HPA, busy {target:.0%}", partial(Hpa, pipeline, by_utilisation, _each(pipeline, target))
        )


def on_fine_utilisation(pipeline: Pipeline) -> Iterator[Candidate]:
    """The same at targets that nobody would guess: close to where the goal is lost, drafts and target apart."""
    for draft, target in product(DRAFT_UTILISATIONS, TARGET_UTILISATIONS):
        name = f"HPA, busy {draft:.0%}/{target:.0%}"
        yield Candidate(name, partial(Hpa, pipeline, by_utilisation, _each(pipeline, target, draft)))


def on_sessions(pipeline: Pipeline) -> Iterator[Candidate]:
    """HPA on sessions per replica, at every combination of targets; drafts alike."""
    for draft, target in product(DRAFT_SESSIONS, TARGET_SESSIONS):
        name = f"HPA, sessions {draft:.0f}/{target:.0f}"
        yield Candidate(name, partial(Hpa, pipeline, by_sessions, _each(pipeline, target, draft)))


def _each(pipeline: Pipeline, target: float, draft: float | None = None) -> tuple[float, ...]:
    """What the metric should be of every stage: the same for all, or another for the drafts."""
    return (*(target if draft is None else draft,) * (len(pipeline.stages) - 1), target)


def unchanging(pipeline: Pipeline, least_targets: int) -> Iterator[tuple[int, ...]]:
    """Fleets of a growing number of targets, with a replica of each draft for every three; the cheapest first."""
    for targets in range(least_targets, 33):
        yield (*(-(-targets // 3),) * (len(pipeline.stages) - 1), targets)
