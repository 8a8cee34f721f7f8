"""The analytic pipeline against its limits and against the simulator, which runs the protocol itself."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipespec.emulation.curve import LatencyCurve
from pipespec.ops.errors import SettingsError
from pipespec.planner.pipeline_rate import Draft, alone, break_even_agreement, chain_rate, pipeline_rate
from pipespec.planner.prediction import Texts, predict
from pipespec.planner.simulation.run import NO_OVERHEADS
from planner.chains import pipeline, stage

FLAT = LatencyCurve(((1, 100.0),))
NF4 = LatencyCurve(((1, 120.0), (2, 428.0), (35, 439.0)))
MANY = Texts(count=12, tokens=256, overheads=NO_OVERHEADS)


def test_a_draft_that_is_never_right_changes_nothing_but_the_cost_of_checking_it() -> None:
    rate = pipeline_rate(Draft(10.0, 10.0, 0.0, 4), FLAT)
    assert rate.tokens_per_step == pytest.approx(1.0)
    assert rate.ms_per_token == pytest.approx(100.0)


def test_a_perfect_fast_draft_brings_as_many_tokens_as_it_makes_in_a_step() -> None:
    rate = pipeline_rate(Draft(10.0, 10.0, 1.0, 64), FLAT)
    assert rate.ms_per_token == pytest.approx(10.0)


@pytest.mark.parametrize("alpha", [0.3, 0.6, 0.9])
def test_a_draft_that_costs_nothing_and_looks_far_brings_the_limit_of_a_free_running_pair(
    alpha: float,
) -> None:
    """After each rejection one step finds nothing to check: 1/(1-α²) tokens per step."""
    rate = pipeline_rate(Draft(0.1, 0.1, alpha, 256), FLAT)
    assert rate.tokens_per_step == pytest.approx(1 / (1 - alpha**2), rel=0.01)


@given(st.floats(1, 90), st.floats(0, 0.9), st.sampled_from([1, 2, 8, 40]))
def test_no_chain_is_faster_than_its_draft_or_brings_less_than_a_token_per_step(
    draft_ms: float, alpha: float, lookahead: int
) -> None:
    rate = pipeline_rate(Draft(draft_ms, draft_ms, alpha, lookahead), FLAT)
    assert rate.ms_per_token >= draft_ms * 0.999
    assert rate.tokens_per_step >= 1 - 1e-6


@pytest.mark.parametrize("agreement", [0.6, 0.9])
@pytest.mark.parametrize("lookahead", [4, 24])
@pytest.mark.parametrize("draft_ms", [7.0, 33.0])
@pytest.mark.parametrize("latency", [{1: 100.0}, {1: 100.0, 2: 300.0, 20: 330.0}])
def test_a_pair_takes_as_long_as_in_the_simulator(
    agreement: float, lookahead: int, draft_ms: float, latency: dict[int, float]
) -> None:
    curve = LatencyCurve(tuple(latency.items()))
    analytic = chain_rate([LatencyCurve(((1, draft_ms),)), curve], [agreement], [lookahead])
    simulated = predict(pipeline(stage({1: draft_ms}, agreement, lookahead=lookahead), stage(latency)), MANY)
    assert analytic.ms_per_token == pytest.approx(
        simulated.ms_per_token, rel=0.02, abs=3 * simulated.error_ms
    )


def test_three_stages_take_nearly_as_long_as_in_the_simulator() -> None:
    small, middle, target = {1: 5.0}, {1: 20.0, 8: 24.0}, {1: 100.0, 32: 110.0}
    curves = [LatencyCurve(tuple(latency.items())) for latency in (small, middle, target)]
    analytic = chain_rate(curves, [0.85, 0.92], [8, 32])
    stages = (stage(small, 0.85, lookahead=8), stage(middle, 0.92, lookahead=32), stage(target))
    simulated = predict(pipeline(*stages), MANY)
    assert analytic.ms_per_token == pytest.approx(simulated.ms_per_token, rel=0.1)
    assert analytic.ms_per_token < alone(FLAT).ms_per_token


def test_more_tokens_per_step_are_no_gain_in_time_where_verifying_is_dear() -> None:
    rate = pipeline_rate(Draft(22.0, 22.0, 0.8, 4), NF4)
    assert rate.tokens_per_step > 1
    assert rate.ms_per_token > 120.0


def test_the_break_even_is_where_the_pair_is_as_fast_as_its_target() -> None:
    agreement = break_even_agreement(22.0, NF4, 40)
    assert agreement is not None
    assert pipeline_rate(Draft(22.0, 22.0, agreement, 40), NF4).ms_per_token == pytest.approx(120.0, rel=0.01)
    assert break_even_agreement(119.0, NF4, 1) is None


@pytest.mark.parametrize(("ms", "agreement", "lookahead"), [(0.0, 0.5, 4), (1.0, 1.5, 4), (1.0, 0.5, 0)])
def test_a_draft_that_cannot_be_is_refused(ms: float, agreement: float, lookahead: int) -> None:
    with pytest.raises(SettingsError):
        Draft(ms, ms, agreement, lookahead)


def test_a_chain_has_an_agreement_and_a_lookahead_per_draft() -> None:
    with pytest.raises(SettingsError):
        chain_rate([FLAT, FLAT], [0.5], [])
