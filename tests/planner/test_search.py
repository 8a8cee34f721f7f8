"""What the planner finds: for the recorded stages what the recorded data say, and never a chain that does not pay."""

from __future__ import annotations

import pytest

from pipespec.bench.recorded import AGREEMENT_1B_8B, AGREEMENT_8B_70B, EIGHT_B, ONE_B, SEVENTY_B
from pipespec.ops.pipeline import Pipeline, parse_pipeline
from pipespec.planner.prediction import Texts
from pipespec.planner.search import Comparison, compare, find_lookaheads, num_searches
from pipespec.planner.variants import (
    agreement_between,
    sub_chains,
    synchronous,
    with_lookaheads,
    with_stages,
)
from planner.chains import pipeline, stage

FEW = Texts(count=2, tokens=96)
PAIR_8B = parse_pipeline(
    {
        "stages": [
            {"kind": "emulated", "emulation": {**ONE_B, "agreement": AGREEMENT_1B_8B}},
            {"kind": "emulated", "emulation": EIGHT_B},
        ]
    },
    source="recorded",
)
PAIR_70B = parse_pipeline(
    {
        "stages": [
            {"kind": "emulated", "emulation": {**EIGHT_B, "agreement": AGREEMENT_8B_70B}},
            {"kind": "emulated", "emulation": SEVENTY_B},
        ]
    },
    source="recorded",
)


def compared(chain: Pipeline) -> Comparison:
    """On few texts."""
    return compare(chain, texts=FEW, search_texts=FEW)


def test_the_recorded_small_pair_looks_a_short_way_ahead_and_the_dear_target_a_long_one() -> None:
    """Recorded: 1B for 8B is best with 5 (15.4 ms; 18.1 with 10); 4-bit 70B accepts up to 35 in a step."""
    (short,) = find_lookaheads(PAIR_8B, with_lookaheads).lookaheads
    (long,) = find_lookaheads(PAIR_70B, with_lookaheads).lookaheads
    assert short <= 6
    assert long >= 24


def test_a_draft_that_is_as_slow_as_the_target_does_not_pay() -> None:
    comparison = compared(pipeline(stage({1: 100.0}, 0.9), stage({1: 100.0, 2: 130.0})))
    assert comparison.best is comparison.alone


def test_a_stage_that_brings_nothing_is_left_out() -> None:
    comparison = compared(pipeline(stage({1: 19.0}, 0.3), stage({1: 20.0}, 0.95), stage({1: 200.0})))
    assert comparison.best.ranks == (1, 2)
    assert comparison.best.speed_up > 3


def test_a_pipeline_beats_the_same_pair_in_turns() -> None:
    comparison = compared(pipeline(stage({1: 20.0}, 0.9, stands_for="small"), stage({1: 100.0})))
    rival = comparison.best_synchronous
    assert rival is not None
    assert comparison.best.prediction.ms_per_token < rival.prediction.ms_per_token
    assert comparison.best.name == "small > stage 1"


def test_all_chains_that_end_with_the_target_are_looked_at() -> None:
    assert list(sub_chains(3)) == [(2,), (0, 2), (1, 2), (0, 1, 2)]
    ticks: list[None] = []
    chain = pipeline(stage({1: 20.0}, 0.5), stage({1: 100.0}))
    compare(chain, texts=FEW, search_texts=FEW, on_progress=lambda: ticks.append(None))
    assert len(ticks) == num_searches(2)


def test_without_a_stage_agreements_multiply_unless_they_were_measured() -> None:
    chain = pipeline(stage({1: 1.0}, 0.5), stage({1: 2.0}, 0.5), stage({1: 3.0}))
    assert agreement_between(chain, 0, 2) == 0.25
    measured = pipeline(
        stage({1: 1.0}, 0.5, agreement_beyond={1: 0.4}), stage({1: 2.0}, 0.5), stage({1: 3.0})
    )
    shorter = with_stages(measured, (0, 2))
    assert shorter.stages[0].emulation is not None
    assert shorter.stages[0].emulation.agreement == 0.4


def test_a_synchronous_chain_waits_for_what_the_earlier_stage_may_say() -> None:
    chain = synchronous(pipeline(stage({1: 1.0}, 0.5), stage({1: 2.0}, 0.5), stage({1: 3.0})), (3, 5))
    assert [one.lookahead for one in chain.stages[:-1]] == [3, 5]
    assert [one.wait_for for one in chain.stages] == [0, 3, 5]


@pytest.mark.parametrize("lookaheads", [(2,), (64,)])
def test_a_variant_leaves_the_rest_of_the_pipeline_alone(lookaheads: tuple[int, ...]) -> None:
    changed = with_lookaheads(PAIR_8B, lookaheads)
    assert changed.stages[0].emulation == PAIR_8B.stages[0].emulation
    assert changed.gateway == PAIR_8B.gateway


def test_the_file_itself_is_among_the_options() -> None:
    """A perfect draft that may be further ahead than the search looks."""
    given = pipeline(stage({1: 1.0}, 1.0, lookahead=256), stage({1: 400.0}))
    comparison = compared(given)
    assert comparison.best is comparison.as_given
