"""Figures from arrivals that are written down."""

from __future__ import annotations

from pipespec.planner.arrivals import Arrivals, LoadResult, percentile

RESULT = LoadResult(
    sessions=(Arrivals((1, 2, 3), (0.5, 0.5, 1.0)), Arrivals((4, 5), (1.0, 4.0))),
    total_s=4.0,
)


def test_throughput_is_all_tokens_by_the_time_to_the_last() -> None:
    assert (RESULT.num_tokens, RESULT.tokens_per_s) == (5, 1.25)


def test_latencies_are_percentiles_over_sessions_and_over_all_gaps() -> None:
    assert (RESULT.first_token_s(0.0), RESULT.first_token_s(0.99)) == (0.5, 1.0)
    assert (RESULT.gap_s(0.0), RESULT.gap_s(0.5), RESULT.gap_s(0.99)) == (0.0, 0.5, 3.0)


def test_a_percentile_of_nothing_is_nothing() -> None:
    assert percentile([], 0.5) == 0.0
