"""Growth is carried on when it is growth, and not when it is noise."""

from __future__ import annotations

from random import Random

import pytest

from pipespec.planner.scaling.trend import Trend


def test_a_steady_rise_is_carried_on() -> None:
    trend = Trend(120.0)
    growth = [trend.growth(15.0 * n, 20 + n) for n in range(20)]
    assert growth[-1] == pytest.approx(120 / 15, rel=0.01)


def test_neither_a_fall_nor_a_few_points_nor_a_level_load_grow() -> None:
    falling, level = Trend(120.0), Trend(120.0)
    assert [falling.growth(15.0 * n, 40 - n) for n in range(20)] == [0.0] * 20
    assert [level.growth(15.0 * n, 7) for n in range(20)] == [0.0] * 20
    assert [Trend(120.0).growth(15.0 * n, 2**n) for n in range(1)] == [0.0]


def test_noise_is_rarely_taken_for_growth() -> None:
    trend, luck = Trend(120.0), Random(1)
    grown = [trend.growth(15.0 * n, luck.gauss(40, 40**0.5)) > 0 for n in range(2000)]
    assert sum(grown) < 0.02 * len(grown)


def test_nothing_grows_to_more_than_the_double_and_without_a_time_ahead_nothing_grows() -> None:
    steep, blind = Trend(600.0), Trend(0.0)
    assert [steep.growth(15.0 * n, 1 + 20 * n) for n in range(20)][-1] == pytest.approx(1 + 20 * 19)
    assert [blind.growth(15.0 * n, 1 + 20 * n) for n in range(20)] == [0.0] * 20


def test_what_is_forgotten_does_not_grow() -> None:
    trend = Trend(120.0)
    for n in range(20):
        trend.growth(15.0 * n, 20 + n)
    trend.forget()
    assert trend.growth(300.0, 60) == 0.0
