"""The HorizontalPodAutoscaler of Kubernetes (autoscaling/v2), for each stage by itself, as its controller computes.

Source: kubernetes/pkg/controller/podautoscaler: replica_calculator.go and horizontal.go, with the API's default behaviour: 10 %
tolerance, 5 minutes of stabilisation downwards and none upwards, at most four pods or the double more per 15 s.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from math import ceil

from pipespec.ops.pipeline import Pipeline
from pipespec.planner.scaling.load import FleetLoad, StageUse

TOLERANCE = 0.1
DOWN_S = 300.0
PODS_UP = 4

Wish = Callable[[StageUse, float], int]
"""Replicas that a metric asks for at a target."""


def by_utilisation(use: StageUse, target: float) -> int:
    """Busy share: pods that are not ready yet count as idle on the way up."""
    if not use.ready or use.busy is None:
        return use.asked
    ratio = use.busy / target
    unready = use.asked - use.ready
    if unready > 0 and ratio > 1:
        ratio = use.busy * use.ready / use.asked / target
        return use.asked if ratio <= 1 + TOLERANCE else ceil(ratio * use.asked)
    return use.asked if abs(ratio - 1) <= TOLERANCE else ceil(ratio * use.ready)


def by_sessions(use: StageUse, target: float) -> int:
    """Sessions per pod, as an external metric with an average value."""
    if use.asked and abs(use.sessions / (target * use.asked) - 1) <= TOLERANCE:
        return use.asked
    return ceil(use.sessions / target)


@dataclass(slots=True)
class StageHpa:
    """One HorizontalPodAutoscaler.

    Attributes:
        wish: of its metric.
        target: of the metric.
        least: replicas, at least 1.
        most: replicas.
    """

    wish: Wish
    target: float
    least: int
    most: int
    _wishes: deque[tuple[float, int]] = field(default_factory=deque)

    def decide(self, now_s: float, use: StageUse) -> int:
        """Replicas to ask for."""
        wish = self.wish(use, self.target)
        self._wishes.append((now_s, wish))
        while self._wishes[0][0] <= now_s - DOWN_S:
            self._wishes.popleft()
        steadied = wish if wish >= use.asked else min(use.asked, max(one for _, one in self._wishes))
        limited = min(steadied, max(use.asked + PODS_UP, 2 * use.asked))
        return min(max(limited, self.least), self.most)


class Hpa:
    """One for every stage.

    Args:
        pipeline: whose stages' ``scaling`` gives the limits.
        wish: of the metric.
        targets: of the metric, by rank.
    """

    def __init__(self, pipeline: Pipeline, wish: Wish, targets: tuple[float, ...]) -> None:
        self._stages = [
            StageHpa(wish, target, max(1, stage.scaling.min_replicas), stage.scaling.max_replicas)
            for stage, target in zip(pipeline.stages, targets, strict=True)
            if stage.scaling is not None
        ]

    def decide(self, load: FleetLoad) -> tuple[int, ...]:
        """Replicas to ask for, by rank."""
        return tuple(one.decide(load.now_s, use) for one, use in zip(self._stages, load.stages, strict=True))
