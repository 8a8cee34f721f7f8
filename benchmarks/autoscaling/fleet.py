"""Replicas of all stages as a cluster runs them: asked for, loading, ready, draining; and who is on which.

StatefulSets with parallel pod management: new replicas start at once, the youngest go first. A replica occupies its GPUs from
the moment it is asked for until it has drained.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from pipespec.ops.pipeline import Pipeline


@dataclass(slots=True, eq=False)
class Replica:
    """One pod.

    Attributes:
        ready_s: from when on it serves.
        sessions: on it now.
        gone_s: when it will have drained; None while it is wanted.
    """

    ready_s: float
    sessions: int = 0
    gone_s: float | None = None


@dataclass(slots=True)
class StageFleet:
    """One stage's replicas, the oldest first."""

    max_sessions: int
    gpus: float
    wanted: list[Replica] = field(default_factory=list)
    draining: list[Replica] = field(default_factory=list)

    def ready(self, now_s: float) -> list[Replica]:
        """Those that take sessions."""
        return [replica for replica in self.wanted if replica.ready_s <= now_s]

    def least_loaded(self, now_s: float) -> Replica | None:
        """Of those that have room."""
        ready = [one for one in self.wanted if one.ready_s <= now_s and one.sessions < self.max_sessions]
        return min(ready, key=lambda one: one.sessions, default=None)

    def scale(self, now_s: float, number: int, *, start_s: float, drain_s: float) -> None:
        """Ask for so many."""
        while len(self.wanted) < number:
            self.wanted.append(Replica(now_s + start_s))
        while len(self.wanted) > number:
            youngest = self.wanted.pop()
            if youngest.ready_s <= now_s:
                youngest.gone_s = now_s + drain_s
                self.draining.append(youngest)

    def reap(self, now_s: float) -> None:
        """Forget what has drained."""
        self.draining = [one for one in self.draining if one.gone_s is not None and one.gone_s > now_s]

    @property
    def occupied_gpus(self) -> float:
        """By all that is there."""
        return self.gpus * (len(self.wanted) + len(self.draining))


def fleet_of(pipeline: Pipeline, replicas: tuple[int, ...]) -> tuple[StageFleet, ...]:
    """All stages, with so many replicas that are ready."""

    def stages() -> Iterator[StageFleet]:
        for stage, number in zip(pipeline.stages, replicas, strict=True):
            gpus = stage.scaling.gpus if stage.scaling else 0.0
            yield StageFleet(stage.max_sessions, gpus, [Replica(0.0) for _ in range(number)])

    return tuple(stages())
