"""A latency curve goes through its points, straight between and beyond them, and says what is wrong with bad ones."""

from __future__ import annotations

import math

import pytest

from pipespec.emulation.curve import LatencyCurve
from pipespec.ops.errors import SettingsError

STEP = LatencyCurve(((1, 120.5), (2, 428.0), (35, 461.0)), session_ms=3.0)
"""4-bit 70B: any verification costs three and a half single tokens."""


@pytest.mark.parametrize(("num_tokens", "expected"), [(1, 120.5), (2, 428.0), (3, 429.0), (35, 461.0)])
def test_it_goes_through_its_points_and_straight_between_them(num_tokens: int, expected: float) -> None:
    assert STEP.ms(num_tokens) == pytest.approx(expected)


def test_beyond_the_last_point_the_last_slope_goes_on() -> None:
    assert STEP.ms(135) == pytest.approx(561.0)


def test_beyond_the_last_point_it_never_falls() -> None:
    assert LatencyCurve(((1, 9.0), (4, 6.0))).ms(1000) == 6.0


def test_before_the_first_point_it_is_flat() -> None:
    assert LatencyCurve(((4, 7.0), (8, 11.0))).ms(1) == 7.0


def test_one_point_is_a_constant() -> None:
    assert {LatencyCurve(((8, 5.0),)).ms(n) for n in (1, 8, 500)} == {5.0}


def test_every_session_but_the_first_costs_extra() -> None:
    assert [STEP.ms(2, num_sessions) for num_sessions in (0, 1, 2, 5)] == [428.0, 428.0, 431.0, 440.0]


@pytest.mark.parametrize(
    ("points", "session_ms", "said"),
    [
        ((), 0.0, "at least one point"),
        (((0, 1.0),), 0.0, "ascend from 1 on; got 0"),
        (((2, 1.0), (2, 2.0)), 0.0, "got 2 after 2"),
        (((4, 1.0), (2, 2.0)), 0.0, "got 2 after 4"),
        (((1, -0.5),), 0.0, "time of 1 tokens .* 0 ms or more; got -0.5"),
        (((1, math.nan),), 0.0, "got nan"),
        (((1, math.inf),), 0.0, "got inf"),
        (((1, 1.0),), -1.0, "'session_ms' .* got -1.0"),
    ],
)
def test_a_bad_curve_is_refused_with_its_value(
    points: tuple[tuple[int, float], ...], session_ms: float, said: str
) -> None:
    with pytest.raises(SettingsError, match=said):
        LatencyCurve(points, session_ms)


def test_two_points_at_one_and_two_are_a_step_that_stays_flat() -> None:
    curve = LatencyCurve(((1, 120.0), (2, 428.0)))
    assert [curve.ms(tokens) for tokens in (1, 2, 3, 100)] == [120.0, 428.0, 428.0, 428.0]
