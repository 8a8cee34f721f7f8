"""From the goal that nine of ten streams should keep to the mean that replicas are planned for.

Texts are not equally hard, so streams differ; the simulator says by how much. And the profile is not the fleet: what streams
are really slower, or faster, than predicted is carried over, within bounds.
"""

from __future__ import annotations

from pipespec.ops.pipeline import Pipeline
from pipespec.planner.scaling.steady import steady_speed

_NINE_OF_TEN = 1.2816
"""Standard deviations above the mean, of a normal distribution."""
_SHARE = 4
_SESSIONS = 8
_PATIENCE = 0.1
"""Weight of one snapshot in the running mean."""
_FARTHEST = 1.25
"""Measured over predicted; what is farther off is no matter of a profile."""


class Goal:
    """Of one pipeline. Simulates it for a second or two.

    Args:
        pipeline: of emulated stages.
        goal_ms: per token, that nine of ten streams should keep.
    """

    def __init__(self, pipeline: Pipeline, goal_ms: float) -> None:
        shares = tuple(min(_SHARE, stage.max_sessions) for stage in pipeline.stages)
        self.mean_ms = goal_ms / (
            1 + _NINE_OF_TEN * steady_speed(pipeline, shares, sessions=_SESSIONS).spread
        )
        self.slower = 1.0

    @property
    def predicted_ms(self) -> float:
        """The mean that a prediction has to keep."""
        return self.mean_ms / self.slower

    def compare(self, *, measured_ms: float, predicted_ms: float) -> None:
        """Take note of how a quiet fleet does."""
        ratio = min(max(measured_ms / predicted_ms, 1 / _FARTHEST), _FARTHEST)
        self.slower += _PATIENCE * (ratio - self.slower)
