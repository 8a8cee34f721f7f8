"""The policy as a whole: what it asks for, when, and what it says of it."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipespec.ops.cluster import AutoscalerSettings
from pipespec.ops.errors import SettingsError
from pipespec.planner.scaling.decision import Decision
from pipespec.planner.scaling.scaler import Scaler
from planner.chains import pipeline, stage
from planner.scaling.fleets import DRAFT, TARGET, load, pair, scaled


def scaler(*, goal_ms: float = 40.0, **others: float) -> Scaler:
    return Scaler(pair(), AutoscalerSettings(goal_ms=goal_ms, start_s=0, **others))


def test_more_sessions_get_more_replicas_at_once() -> None:
    policy = scaler()
    few = policy.decide(load(0, (1, 1), 2, ms=25.0))
    many = policy.decide(load(15, (1, 1), 60, ms=30.0))
    assert few.replicas == (1, 1)
    assert many.replicas[1] > 1
    assert many.replicas == many.needed
    assert many.is_met
    assert many.ms_per_token <= many.goal_ms


def test_replicas_that_are_not_needed_go_after_the_wait_and_one_by_one() -> None:
    policy, asked, seen = scaler(down_wait_s=60.0), (2, 3), []
    for turn in range(8):
        asked = policy.decide(load(15.0 * turn, asked, 2, ms=20.0)).replicas
        seen.append(asked)
    assert seen[:4] == [(2, 3)] * 4
    assert seen[4] == (1, 2)
    assert seen[-1] == (1, 1)


def test_a_draft_that_does_not_pay_is_switched_off_and_the_reason_says_so() -> None:
    poor = pipeline(scaled({1: 30.0}, 0.2, least=0, lookahead=8), scaled({1: 40.0, 8: 44.0}, gpus=2))
    decision = Scaler(poor, AutoscalerSettings(goal_ms=60.0, down_wait_s=0)).decide(
        load(0, (1, 1), 4, ms=40.0)
    )
    assert decision.needed[0] == 0
    assert decision.chain == (1,)
    assert "stage 0 does not pay now" in decision.reason


def test_a_draft_that_may_not_be_switched_off_stays() -> None:
    poor = pipeline(scaled({1: 30.0}, 0.2, lookahead=8), scaled({1: 40.0, 8: 44.0}, gpus=2))
    decision = Scaler(poor, AutoscalerSettings(goal_ms=80.0)).decide(load(0, (1, 1), 4, ms=40.0))
    assert decision.replicas == (1, 1)


def test_a_stage_without_scaling_stays_and_the_others_are_decided_around_it() -> None:
    fixed = pipeline(stage(DRAFT, 0.9, lookahead=8, session_ms=2.0), scaled(TARGET, gpus=2))
    decision = Scaler(fixed, AutoscalerSettings(goal_ms=40.0)).decide(load(0, (3, 1), 40, ms=30.0))
    assert decision.replicas[0] == 3
    assert decision.replicas[1] > 1
    assert decision.gpus == 2.0 * decision.replicas[1]


def test_a_goal_that_cannot_be_kept_is_said_so_and_served_as_well_as_can_be() -> None:
    decision = scaler(goal_ms=1.0).decide(load(0, (1, 1), 4, ms=30.0))
    assert not decision.is_met
    assert "cannot be kept" in decision.reason
    assert 1 <= decision.replicas[1] <= 16


def test_sessions_beyond_all_room_are_no_goal_that_is_kept() -> None:
    small = pipeline(scaled({1: 5.0}, gpus=1, most=2, max_sessions=4))
    decision = Scaler(small, AutoscalerSettings(goal_ms=1000.0, headroom=0)).decide(
        load(0, (1,), 100, ms=5.0)
    )
    assert decision.replicas == (2,)
    assert not decision.is_met


def test_in_a_surge_nothing_is_given_up_and_after_the_answer_nothing_added() -> None:
    policy = scaler(down_wait_s=0)
    first = policy.decide(load(0, (2, 2), 60, ms=90.0))
    assert first.replicas[1] > 2
    later = [
        policy.decide(load(at_s, first.replicas, 100 + int(at_s), ready=(2, 2), ms=200.0))
        for at_s in (15, 45, 60)
    ]
    assert later[1].replicas == later[2].replicas == first.replicas
    assert "under way" in later[2].reason
    assert scaler(down_wait_s=0).decide(load(0, (9, 9), 3, ms=20.0, refused=5)).replicas == (9, 9)


def test_growth_is_carried_on_for_as_long_as_a_replica_takes_to_start() -> None:
    ahead, blind = (
        Scaler(pair(), AutoscalerSettings(goal_ms=40.0, start_s=start_s)) for start_s in (300.0, 0.0)
    )
    for turn in range(21):
        snapshot = load(15.0 * turn, (9, 9), 10 + turn, ms=30.0)
        seen = ahead.decide(snapshot).forecast, blind.decide(snapshot).forecast
    assert seen[0] > seen[1] + 10


def test_the_reason_names_demand_needs_and_what_holds_it_back() -> None:
    decision = scaler().decide(load(0, (4, 4), 2, ms=20.0))
    for part in ("2 sessions", "room for", "1 of stage 1", "ms per token", "cool-down keeps 4, needed are 1"):
        assert part in decision.reason


def test_what_cannot_be_scaled_is_refused() -> None:
    with pytest.raises(SettingsError, match="nothing to scale"):
        Scaler(pipeline(stage({1: 40.0})), AutoscalerSettings(goal_ms=40.0))
    with pytest.raises(SettingsError, match="a load of 1 stages for a pipeline of 2"):
        scaler().decide(load(0, (1,), 2))


snapshots = st.tuples(
    st.integers(0, 6),  # drafts asked for
    st.integers(1, 6),
    st.integers(0, 12),  # sessions
    st.integers(0, 9),  # refused
    st.one_of(st.none(), st.floats(1, 500)),
    st.floats(0, 1),  # share of the replicas that is ready
    st.integers(0, 3),  # draining
)
Course = list[tuple[int, int, int, int, float | None, float, int]]
SMALL = pipeline(
    scaled({1: 8.0}, 0.8, least=0, most=4, lookahead=2), scaled({1: 40.0, 4: 48.0}, gpus=2, most=4)
)


def play(course: Course) -> list[Decision]:
    policy = Scaler(SMALL, AutoscalerSettings(goal_ms=60.0))
    decisions = []
    for turn, (drafts, targets, sessions, refused, ms, part, going) in enumerate(course):
        ready = (round(part * drafts), round(part * targets))
        seen = load(
            15.0 * turn,
            (drafts, targets),
            sessions,
            ready=ready,
            draining=(0, going),
            refused=refused,
            ms=ms,
        )
        decisions.append(policy.decide(seen))
    return decisions


@settings(max_examples=8, deadline=None)
@given(st.lists(snapshots, min_size=1, max_size=8))
def test_whatever_comes_replicas_stay_within_their_limits(course: Course) -> None:
    for decision in play(course):
        assert 0 <= decision.replicas[0] <= 4
        assert 1 <= decision.replicas[1] <= 4
        assert decision.gpus == decision.replicas[0] + 2 * decision.replicas[1]
        assert decision.reason


def test_the_same_snapshots_give_the_same_decisions() -> None:
    course: Course = [(1, 1, n, n % 3, 30.0 * n, 1.0, 0) for n in range(1, 9)]
    assert play(course) == play(course)
