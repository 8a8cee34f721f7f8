"""Curves and agreements from steps whose truth is known."""

from __future__ import annotations

from random import Random

import pytest

from pipespec.observer.measurement import Measurement, StageMeasurement
from pipespec.protocol.ids import Position, Rank, SessionId
from pipespec.protocol.messages import Stepped, StepShare


def step(ms: float, *shares: tuple[int, int, int]) -> Stepped:
    """A step of (fed, candidates, accepted) per session."""
    made = tuple(
        StepShare(SessionId(bytes([index]) * 16), Position(0), fed, candidates, accepted, accepted + 1)
        for index, (fed, candidates, accepted) in enumerate(shares)
    )
    return Stepped(Rank(1), "r0", began_us=0, took_us=round(ms * 1000), shares=made)


def test_the_curve_is_the_median_of_steps_of_equal_size_and_rare_sizes_join_the_next() -> None:
    stage = StageMeasurement()
    for ms in (120.0, 121.0, 900.0):
        stage.add(step(ms, (1, 0, 0)))
    for ms in (428.0, 429.0, 430.0):
        stage.add(step(ms, (5, 4, 4)))
    stage.add(step(427.0, (3, 2, 2)))
    stage.add(step(440.0, (30, 29, 29)))
    curve = stage.curve()
    assert curve is not None
    assert curve.points == ((1, 121.0), (3, 428.5))


def test_what_a_further_session_costs_is_found_in_shared_steps() -> None:
    stage = StageMeasurement()
    for _ in range(3):
        stage.add(step(10.0, (1, 0, 0)))
        stage.add(step(14.0, (5, 4, 4)))
        stage.add(step(16.0, (3, 2, 2), (1, 0, 0), (1, 0, 0)))
    curve = stage.curve()
    assert curve is not None
    assert curve.session_ms == 1.0


def test_a_stage_that_was_never_seen_alone_has_no_curve() -> None:
    stage = StageMeasurement()
    stage.add(step(16.0, (3, 2, 2), (1, 0, 0)))
    assert stage.curve() is None
    assert stage.agreement == 1.0
    assert StageMeasurement().agreement is None


def test_a_draft_that_was_silent_was_wrong_where_it_need_not_guess() -> None:
    stage = StageMeasurement()
    for shares in ((4, 3, 3), (1, 0, 0), (2, 1, 0)):
        stage.add(step(10.0, shares))
    assert stage.agreement == pytest.approx(3 / 4)
    assert stage.agreement_with_silence == pytest.approx(3 / 5)


@pytest.mark.parametrize("truth", [0.3, 0.8, 0.95])
@pytest.mark.parametrize("width", [1, 5, 16])
def test_the_agreement_is_that_of_single_tokens_whatever_the_width_of_the_windows(
    truth: float, width: int
) -> None:
    """Accepted by checked would be too low: what follows the first wrong token is not judged."""
    random, stage = Random(4), StageMeasurement()
    while stage.num_judged < 20_000:
        accepted = next((n for n in range(width) if random.random() >= truth), width)
        stage.add(step(1.0, (width + 1, width, accepted)))
    assert stage.agreement == pytest.approx(truth, abs=0.012)


def test_stages_are_told_apart_and_other_messages_ignored() -> None:
    measurement = Measurement()
    measurement.add(step(1.0, (1, 0, 0)))
    measurement.add("something else")
    assert {rank: stage.num_steps for rank, stage in measurement.stages.items()} == {Rank(1): 1}


def test_a_rare_size_does_not_borrow_from_much_larger_ones() -> None:
    stage = StageMeasurement()
    stage.add(step(4.1, (2, 1, 1)))
    for _ in range(3):
        stage.add(step(14.9, (30, 29, 29)))
    curve = stage.curve()
    assert curve is not None
    assert curve.points == ((30, 14.9),)
