"""What is measured corrects what was profiled, slowly and within bounds."""

from __future__ import annotations

import pytest

from pipespec.planner.scaling.chains import Chains
from pipespec.planner.scaling.goal import Goal
from pipespec.planner.scaling.steady import steady_speed
from planner.chains import pipeline, stage
from planner.scaling.fleets import pair

PAIR = pair()


def test_the_mean_leaves_room_for_hard_texts() -> None:
    spread = steady_speed(PAIR, (4, 4), sessions=8).spread
    assert Goal(PAIR, 50.0).mean_ms == pytest.approx(50.0 / (1 + 1.2816 * spread))
    assert Goal(pipeline(stage({1: 40.0})), 50.0).mean_ms == pytest.approx(50.0, rel=0.01)


def test_a_fleet_slower_than_predicted_is_given_more_and_never_too_much() -> None:
    goal = Goal(PAIR, 50.0)
    for _ in range(100):
        goal.compare(measured_ms=33.0, predicted_ms=30.0)
    assert goal.predicted_ms == pytest.approx(goal.mean_ms / 1.1, rel=0.01)
    for _ in range(100):
        goal.compare(measured_ms=300.0, predicted_ms=30.0)
    assert goal.predicted_ms == pytest.approx(goal.mean_ms / 1.25, rel=0.01)


def test_a_draft_that_agrees_less_than_profiled_makes_streams_slower() -> None:
    chains = Chains(PAIR)
    profiled = chains.capacity((0, 1)).rate((1, 1)).ms_per_token
    chains.hear((0, 1), (None, 0.82))
    assert chains.capacity((0, 1)).rate((1, 1)).ms_per_token == profiled  # once is noise
    for _ in range(50):
        chains.hear((0, 1), (None, 0.82))
    assert chains.capacity((0, 1)).rate((1, 1)).ms_per_token > 1.05 * profiled
    assert chains.capacity((1,)).rate((1,)).ms_per_token == pytest.approx(40.0)


def test_agreement_goes_no_farther_than_twice_the_rejections() -> None:
    far, farther = Chains(PAIR), Chains(PAIR)
    for _ in range(200):
        far.hear((0, 1), (None, 0.8))
        farther.hear((0, 1), (None, 0.1))
    rates = [chains.capacity((0, 1)).rate((1, 1)).ms_per_token for chains in (far, farther)]
    assert rates[0] == pytest.approx(rates[1])


def test_stages_that_say_nothing_change_nothing() -> None:
    chains = Chains(PAIR)
    before = chains.capacity((0, 1))
    chains.hear((0, 1), (None, None))
    assert chains.capacity((0, 1)) is before
