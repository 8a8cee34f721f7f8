"""Replicas for a load: enough, no more, all stages together."""

from __future__ import annotations

import pytest

from pipespec.planner.sizing import Demand, size
from planner.chains import pipeline, stage

SHARING_COSTS = pipeline(
    stage({1: 5.0}, 0.9, lookahead=8, session_ms=0.1), stage({1: 50.0, 64: 80.0}, session_ms=20.0)
)


def test_one_stream_needs_one_replica_of_each() -> None:
    sizing = size(SHARING_COSTS, Demand(1, goal_ms=60.0, prompt=4, tokens=32))
    assert sizing.replicas == (1, 1)
    assert sizing.is_met


def test_a_tighter_goal_takes_more_of_the_stage_that_is_short_and_not_of_the_others() -> None:
    loose = size(SHARING_COSTS, Demand(8, goal_ms=200.0, prompt=4, tokens=32))
    tight = size(SHARING_COSTS, Demand(8, goal_ms=20.0, prompt=4, tokens=32))
    assert loose.is_met
    assert tight.is_met
    assert loose.replicas[1] < tight.replicas[1]
    assert tight.replicas[0] < tight.replicas[1]


def test_a_goal_that_no_number_of_replicas_meets_is_said_so() -> None:
    sizing = size(SHARING_COSTS, Demand(4, goal_ms=1.0, prompt=4, tokens=16))
    assert not sizing.is_met
    assert sizing.replicas == (4, 4)


@pytest.mark.parametrize("sessions", [64, 100])
def test_a_load_beyond_what_is_simulated_is_scaled(sessions: int) -> None:
    sizing = size(SHARING_COSTS, Demand(sessions, goal_ms=400.0, prompt=4, tokens=8))
    for replicas, share in zip(sizing.replicas, sizing.sessions_per_replica, strict=True):
        assert replicas * share >= sessions > (replicas - 1) * share


def test_replicas_are_the_fewest_and_none_holds_more_than_it_may() -> None:
    """Three replicas of eight streams keep 58 ms; halving alone would stop at four. A cap of two streams takes twelve."""
    shared = pipeline(stage({1: 20.0}, session_ms=4.0))
    assert size(shared, Demand(24, goal_ms=58.0, prompt=4, tokens=16)).replicas == (3,)
    capped = pipeline(stage({1: 20.0}, session_ms=4.0, max_sessions=2))
    assert size(capped, Demand(24, goal_ms=58.0, prompt=4, tokens=16)).replicas == (12,)
