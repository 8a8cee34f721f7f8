"""The cheapest replicas, beside trying all of them."""

from __future__ import annotations

from itertools import product

import pytest

from pipespec.planner.scaling.capacity import Capacity
from pipespec.planner.scaling.plan import Range, cheapest, share_of, with_one_more
from planner.chains import pipeline, stage

CHAIN = pipeline(
    stage({1: 6.0}, 0.85, lookahead=6, session_ms=3.0), stage({1: 40.0, 32: 60.0}, session_ms=4.0)
)
CAPACITY = Capacity(CHAIN)
RANGES = (Range(1, 8, 1.0, 64), Range(1, 8, 3.0, 64))


@pytest.mark.parametrize("sessions", [1, 5, 12, 20])
@pytest.mark.parametrize("goal_ms", [26.0, 32.0, 45.0, 70.0])
def test_no_other_replicas_that_keep_the_goal_cost_less(sessions: int, goal_ms: float) -> None:
    plan = cheapest(CAPACITY, (0, 1), RANGES, sessions, keeps=lambda ms: ms <= goal_ms)
    costs = [
        drafts * 1.0 + targets * 3.0
        for drafts, targets in product(range(1, 9), range(1, 9))
        if CAPACITY.rate((share_of(sessions, drafts), share_of(sessions, targets))).ms_per_token <= goal_ms
    ]
    assert (plan.gpus if plan else None) == min(costs, default=None)


def test_a_replica_holds_no_more_sessions_than_it_may() -> None:
    ranges = (Range(1, 8, 1.0, 64), Range(1, 8, 3.0, 4))
    plan = cheapest(CAPACITY, (0, 1), ranges, 10, keeps=lambda ms: ms < 1000)
    assert plan is not None
    assert plan.replicas == (1, 3)


def test_more_replicas_than_sessions_are_never_planned() -> None:
    ranges = (Range(1, 100, 1.0, 64), Range(1, 100, 0.0, 64))
    plan = cheapest(CAPACITY, (0, 1), ranges, 3, keeps=lambda ms: ms < 1000)
    assert plan is not None
    assert max(plan.replicas) <= 3


def test_what_a_replica_more_would_bring_is_told_by_stage() -> None:
    plan = cheapest(CAPACITY, (0, 1), RANGES, 12, keeps=lambda ms: ms <= 70.0)
    assert plan is not None
    times = with_one_more(CAPACITY, plan, 12)
    assert set(times) == {0, 1}
    assert min(times.values()) < plan.ms_per_token


def test_shares_are_exact_while_small_and_rounded_up_when_large() -> None:
    assert [share_of(sessions, 1) for sessions in range(1, 17)] == list(range(1, 17))
    for sessions in range(17, 500):
        assert sessions <= share_of(sessions, 1) <= sessions * 9 / 8 + 1
    assert share_of(0, 3) == 1
