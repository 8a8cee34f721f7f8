"""The closed forms against values by hand, their limits, and each other."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipespec.emulation.curve import LatencyCurve
from pipespec.ops.errors import SettingsError
from pipespec.planner.analytic import (
    best_synchronous,
    expected_tokens,
    synchronous_chain_ms_per_token,
    synchronous_ms_per_token,
    synchronous_speed_up,
    tokens_per_target_step,
    verification_probability,
)
from pipespec.planner.prediction import Texts, predict
from pipespec.planner.simulation.run import NO_OVERHEADS
from pipespec.planner.variants import synchronous
from planner.chains import pipeline, stage

ALPHAS = st.floats(0, 1)
GAMMAS = st.integers(0, 64)
NF4 = LatencyCurve(((1, 120.0), (2, 428.0)))
MANY = Texts(count=12, tokens=256, overheads=NO_OVERHEADS)


def test_values_by_hand() -> None:
    assert expected_tokens(0.5, 3) == 1.875  # 1 + 1/2 + 1/4 + 1/8
    assert expected_tokens(1.0, 3) == 4.0
    assert verification_probability(0.5, 1) == pytest.approx(0.5 / (1 - 0.25 + 0.5))
    assert tokens_per_target_step(0.5, 1) == pytest.approx(0.6 + 0.4 * 1.5)
    assert synchronous_speed_up(0.8, 5, 10) == pytest.approx((1 - 0.8**6) / (0.2 * 1.5))
    assert synchronous_ms_per_token(0.5, 1, draft_ms=10, target=NF4) == pytest.approx(438 / 1.5)


@given(ALPHAS, GAMMAS)
def test_a_step_brings_from_one_token_to_all_candidates_and_one(alpha: float, gamma: int) -> None:
    assert 1 <= expected_tokens(alpha, gamma) <= gamma + 1 + 1e-9
    assert 1 <= tokens_per_target_step(alpha, gamma) <= gamma + 1 + 1e-9


@given(ALPHAS, GAMMAS)
def test_the_verification_probability_is_the_stationary_one_of_its_two_states(
    alpha: float, gamma: int
) -> None:
    rho = verification_probability(alpha, gamma)
    assert rho == pytest.approx((1 - rho) * alpha + rho * alpha ** (gamma + 1))


@given(st.floats(0.01, 0.99), st.integers(1, 32))
def test_candidates_are_worth_something_however_bad_the_draft_is(alpha: float, gamma: int) -> None:
    assert tokens_per_target_step(alpha, gamma) > 1


@given(ALPHAS, st.integers(1, 32), st.floats(0.5, 100))
def test_with_a_flat_curve_the_time_is_the_speed_up_of_the_literature(
    alpha: float, gamma: int, ratio: float
) -> None:
    flat = LatencyCurve(((1, 100.0),))
    ms = synchronous_ms_per_token(alpha, gamma, draft_ms=100 / ratio, target=flat)
    assert 100 / ms == pytest.approx(synchronous_speed_up(alpha, gamma, ratio))


@pytest.mark.parametrize("alpha", [0.3, 0.5, 0.8, 0.9])
@pytest.mark.parametrize("gamma", [4, 8, 16])
def test_the_theorem_of_the_paper_is_what_the_simulator_shows(alpha: float, gamma: int) -> None:
    """Its assumption: all steps of the target take equally long, and just as long as γ + 1 steps of the draft."""
    draft_ms = 100 / (gamma + 1) - 0.001
    chain = pipeline(stage({1: draft_ms}, alpha, lookahead=64), stage({1: 100.0}))
    assert predict(chain, MANY).tokens_per_step == pytest.approx(
        tokens_per_target_step(alpha, gamma), rel=0.04
    )


@pytest.mark.parametrize("alpha", [0.3, 0.6, 0.9])
@pytest.mark.parametrize("gamma", [2, 8])
def test_synchronous_rounds_take_as_long_as_in_the_simulator(alpha: float, gamma: int) -> None:
    latency = {1: 100.0, 2: 300.0, 20: 330.0}
    chain = synchronous(pipeline(stage({1: 10.0}, alpha), stage(latency)), (gamma,))
    by_formula = synchronous_ms_per_token(
        alpha, gamma, draft_ms=10.0, target=LatencyCurve(tuple(latency.items()))
    )
    assert predict(chain, MANY).ms_per_token == pytest.approx(by_formula, rel=0.04)


def test_expensive_verification_wants_long_rounds() -> None:
    flat = LatencyCurve(((1, 120.0),))
    assert best_synchronous(0.96, draft_ms=22.0, target=NF4) > best_synchronous(
        0.96, draft_ms=22.0, target=flat
    )


def test_a_chain_of_two_is_a_pair_and_a_chain_of_one_its_model() -> None:
    one = LatencyCurve(((1, 10.0),))
    assert synchronous_chain_ms_per_token([one, NF4], [0.9], [4]) == synchronous_ms_per_token(
        0.9, 4, draft_ms=10.0, target=NF4
    )
    assert synchronous_chain_ms_per_token([NF4], [], []) == 120.0


@pytest.mark.parametrize(("alpha", "gamma"), [(-0.1, 1), (1.1, 1), (0.5, -1)])
def test_what_is_no_probability_or_no_length_is_refused(alpha: float, gamma: int) -> None:
    with pytest.raises(SettingsError):
        tokens_per_target_step(alpha, gamma)


def test_a_cost_ratio_is_positive() -> None:
    with pytest.raises(SettingsError):
        synchronous_speed_up(0.5, 1, 0.0)
