"""Every contender says the same on a tiny model, whatever its way of serving."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from benchmarks.comparison import churn, continuous, driver, gap, generate, per_session
from benchmarks.comparison.equality import Candidates
from benchmarks.comparison.memory import Churn
from benchmarks.comparison.setup import Setup
from benchmarks.comparison.workload import Run, Workload, silent


@pytest.fixture(scope="module")
def expected(setup: Setup, workload: Workload) -> Run:
    return generate.one_after_another(setup, workload, silent)


def check(run: Run, expected: Run) -> None:
    assert run.outputs == expected.outputs
    assert all(0 < first_s <= run.elapsed_s for first_s in run.first_token_s)
    assert len(run.first_token_s) == len(run.outputs)


def test_the_reference_is_the_argmax_of_ordinary_logits(
    setup: Setup, workload: Workload, expected: Run
) -> None:
    model = generate.load_model(setup)
    ids = list(workload.prompts[0])
    with torch.inference_mode():
        for token in expected.outputs[0]:
            assert int(model(torch.tensor([ids])).logits[0, -1].argmax()) == token
            ids.append(token)


@pytest.mark.parametrize(
    "options", [{"cache_implementation": "static"}, {"prompt_lookup_num_tokens": 4}], ids=["static", "lookup"]
)
def test_generate_says_the_same_with_a_static_cache_and_with_lookup(
    setup: Setup, workload: Workload, expected: Run, options: dict[str, object]
) -> None:
    check(generate.one_after_another(setup, workload, silent, **options), expected)


def test_an_assistant_changes_nothing(setup: Setup, workload: Workload, expected: Run) -> None:
    check(generate.assisted(dataclasses.replace(setup, assistant=setup.folder), workload, silent), expected)


@pytest.mark.parametrize("options", [{}, {"cache_implementation": "static"}], ids=["dynamic", "static"])
def test_a_left_padded_batch_says_the_same(
    setup: Setup, workload: Workload, expected: Run, options: dict[str, object]
) -> None:
    check(generate.padded_batch(setup, workload, silent, **options), expected)


def test_continuous_batching_says_the_same(setup: Setup, workload: Workload, expected: Run) -> None:
    check(continuous.batched(setup, workload, silent), expected)


def test_one_cache_per_session_says_the_same(setup: Setup, workload: Workload, expected: Run) -> None:
    check(per_session.round_robin(setup, workload, silent), expected)


@pytest.mark.parametrize("at_once", [1, 2, None])
def test_our_engine_says_the_same_at_any_width(
    setup: Setup, workload: Workload, expected: Run, at_once: int | None
) -> None:
    check(driver.engine_alone(setup, workload, silent, at_once=at_once), expected)


def test_sessions_one_after_another_wait_for_each_other(setup: Setup, workload: Workload) -> None:
    run = driver.engine_alone(setup, workload, silent, at_once=1)
    assert list(run.first_token_s) == sorted(run.first_token_s)
    assert run.first_token_s[0] < run.first_token_s[-1]


def test_what_comes_and_goes_leaves_no_block_behind(setup: Setup) -> None:
    row = churn.come_and_go(setup, Churn(num_sessions=20, num_before=4, at_once=4, cache_gib=0.0005), silent)
    assert (row.num_sessions, row.blocks_before, row.blocks_after) == (20, 0, 0)
    assert row.num_blocks > 0


def test_a_gap_is_the_difference_of_two_logits(setup: Setup, workload: Workload, expected: Run) -> None:
    best = expected.outputs[0][0]
    question = Candidates(workload.prompts[0], expected=best, got=best + 1)
    reverse = Candidates(workload.prompts[0], expected=best + 1, got=best)
    gaps = gap.logit_gaps(setup, [question, reverse], silent)
    assert gaps[0] > 0
    assert gaps[1] == -gaps[0]


def test_output_ends_with_its_first_stop_id() -> None:
    assert generate.until_stop([5, 2, 0, 2], stop_ids=(2,)) == (5, 2)
    assert generate.until_stop([5, 6], stop_ids=(2,)) == (5, 6)


def test_no_warm_up_prompt_begins_a_real_one(workload: Workload) -> None:
    for short, prompt in zip(workload.warm_up().prompts, workload.prompts, strict=True):
        assert short != prompt[: len(short)]
