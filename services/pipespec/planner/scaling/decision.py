"""What the autoscaler wants, and why: a sentence for people, and the same as fields for logs and metrics."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Decision:
    """Replicas of all stages.

    Attributes:
        replicas: to ask the cluster for, by rank.
        reason: a sentence that names the figures.
        sessions: open now.
        demand: streams that there would be at the goal's speed.
        forecast: streams that there should be room for when a replica that is asked for now is ready, headroom included.
        needed: replicas for ``forecast``, by rank, before cool-downs, surges and drains; 0 for a draft that does not pay.
        chain: ranks of the stages that take part in ``needed``.
        bottleneck: rank whose replica more would help most at ``needed``; None where no stage holds another back.
        ms_per_token: predicted mean at ``needed`` and ``forecast``.
        goal_ms: that the mean has to keep so that nine of ten streams keep the goal.
        is_met: whether ``needed`` keeps the goal; False where the replicas allowed are too few, or no number would do.
        gpus: that ``replicas`` occupy.
        held: what keeps ``replicas`` from being ``needed``, a phrase each.
    """

    replicas: tuple[int, ...]
    reason: str
    sessions: int
    demand: float
    forecast: int
    needed: tuple[int, ...]
    chain: tuple[int, ...]
    bottleneck: int | None
    ms_per_token: float
    goal_ms: float
    is_met: bool
    gpus: float
    held: tuple[str, ...]

    def is_change(self, asked: tuple[int, ...]) -> bool:
        """Whether it wants anything other than what was asked for before."""
        return self.replicas != asked
