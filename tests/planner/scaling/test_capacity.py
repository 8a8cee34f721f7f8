"""The closed forms of streams that share replicas, beside the token-level simulator."""

from __future__ import annotations

import pytest

from pipespec.bench.recorded import CHAINS
from pipespec.ops.pipeline import parse_pipeline
from pipespec.planner.scaling.capacity import Capacity, Shares
from pipespec.planner.scaling.steady import steady_speed
from planner.chains import pipeline, stage


def test_a_target_alone_takes_what_its_curve_says_of_the_sessions_on_it() -> None:
    capacity = Capacity(pipeline(stage({1: 40.0, 5: 48.0}, session_ms=3.0)))
    assert capacity.rate((1,)).ms_per_token == pytest.approx(40.0)
    assert capacity.rate((5,)).ms_per_token == pytest.approx(48.0 + 4 * 3.0)


def test_who_does_not_fit_into_a_step_waits_for_the_next_one() -> None:
    capacity = Capacity(pipeline(stage({1: 40.0}, max_batch=4)))
    assert capacity.rate((8,)).ms_per_token == pytest.approx(80.0)


@pytest.mark.parametrize("place", range(3), ids=[chain.name for chain in CHAINS])
@pytest.mark.parametrize("share", [1, 8])
def test_streams_of_the_papers_chains_are_within_a_tenth_of_the_simulator(place: int, share: int) -> None:
    chain = parse_pipeline(CHAINS[place].document(replicas=1), source="paper")
    shares: Shares = (share,) * len(chain.stages)
    exact = steady_speed(chain, shares).ms_per_token
    assert Capacity(chain).rate(shares).ms_per_token == pytest.approx(exact, rel=0.10)


def test_a_shared_draft_costs_streams_what_the_simulator_says() -> None:
    chain = pipeline(
        stage({1: 6.0}, 0.85, lookahead=6, session_ms=3.0), stage({1: 40.0, 32: 60.0}, session_ms=2.0)
    )
    for shares in ((8, 1), (8, 4), (4, 8)):
        exact = steady_speed(chain, shares).ms_per_token
        assert Capacity(chain).rate(shares).ms_per_token == pytest.approx(exact, rel=0.10)


def test_texts_differ_where_drafts_guess_and_not_where_the_target_is_alone() -> None:
    alone = pipeline(stage({1: 40.0}))
    assert steady_speed(alone, (2,), sessions=4).spread == pytest.approx(0.0, abs=0.01)
    drafted = pipeline(stage({1: 6.0}, 0.85, lookahead=6), stage({1: 40.0, 32: 60.0}))
    assert 0.03 < steady_speed(drafted, (2, 2), sessions=4).spread < 0.5
