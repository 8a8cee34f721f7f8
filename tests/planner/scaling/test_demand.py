"""Demand: the same at any speed, steady in noise, at once in a jump, and not what piles up while replicas load."""

from __future__ import annotations

import pytest

from pipespec.planner.scaling.demand import DemandMeter
from planner.scaling.fleets import load

GOAL_MS = 60.0


def test_fast_streams_are_few_and_stand_for_as_many_as_there_would_be_at_the_goal() -> None:
    fast, slow = DemandMeter(), DemandMeter()
    assert fast.read(load(0, (1, 1), 10, ms=30.0), goal_ms=GOAL_MS).streams == pytest.approx(20)
    assert slow.read(load(0, (1, 1), 20, ms=60.0), goal_ms=GOAL_MS).streams == pytest.approx(20)


def test_what_fluctuates_by_chance_is_averaged_and_what_does_not_counts_at_once() -> None:
    meter = DemandMeter()
    meter.read(load(0, (1, 1), 16, ms=60.0), goal_ms=GOAL_MS)
    chance = meter.read(load(15, (1, 1), 24, ms=60.0), goal_ms=GOAL_MS)
    assert chance.streams == pytest.approx(16 + 8 / 4)
    assert not chance.is_jump
    jump = meter.read(load(30, (1, 1), 40, ms=60.0), goal_ms=GOAL_MS)
    assert jump.streams == pytest.approx(40)
    assert jump.is_jump


@pytest.mark.parametrize("refused", [0, 3])
def test_slow_streams_and_refusals_are_a_surge(refused: int) -> None:
    seen = DemandMeter().read(
        load(0, (1, 1), 30, ms=20.0 if refused else 70.0, refused=refused), goal_ms=GOAL_MS
    )
    assert seen.is_surge


def test_requests_that_were_refused_again_and_again_are_the_same_clients() -> None:
    meter = DemandMeter()
    meter.read(load(0, (1, 1), 30, ms=60.0), goal_ms=GOAL_MS)
    assert meter.read(load(15, (1, 1), 30, ms=60.0, refused=150), goal_ms=GOAL_MS).streams == pytest.approx(
        40
    )


def test_a_surge_is_answered_once_until_its_replicas_have_had_time_to_serve_the_pile() -> None:
    meter = DemandMeter()

    def read(at_s: float, sessions: int, ready: tuple[int, int]) -> bool:
        return meter.read(load(at_s, (4, 4), sessions, ready=ready, ms=90.0), goal_ms=GOAL_MS).is_answered

    assert [read(at_s, 30 + int(at_s), (1, 1)) for at_s in (0, 15, 30, 45, 60)] == [
        False,
        False,
        False,
        True,
        True,
    ]
    assert read(75, 200, (4, 4))  # they have only just come
    assert read(90, 210, (4, 4))
    assert not read(105, 220, (4, 4))
    assert read(120, 150, (4, 4))  # it shrinks


def test_after_a_surge_the_average_starts_anew() -> None:
    meter = DemandMeter()
    meter.read(load(0, (1, 1), 100, ms=90.0), goal_ms=GOAL_MS)
    assert meter.read(load(15, (1, 1), 10, ms=60.0), goal_ms=GOAL_MS).streams == pytest.approx(10)
