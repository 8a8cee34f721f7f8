"""The figures of a request, from its arrivals and its stages' reports."""

from __future__ import annotations

import pytest

from pipespec.cli.demo import check_identical
from pipespec.cli.measured import Measured
from pipespec.cli.summary import rows
from pipespec.client import Completion, StageReport, Usage
from pipespec.ops.errors import InvariantBroken


def report(rank: int, **counters: int) -> StageReport:
    names = ("steps", "prefill_steps", "tokens", "checked", "accepted", "rollbacks", "rolled_back", "busy_us")
    return StageReport(rank, f"{rank}:x", **{name: counters.get(name, 0) for name in names})


def measured(
    ids: tuple[int, ...], *stats: StageReport, arrivals_s: tuple[float, ...] | None = None
) -> Measured:
    completion = Completion("r", "text", ids, "stop", Usage(3, len(ids)), stats)
    return Measured(completion, arrivals_s or tuple(0.5 + 0.1 * n for n in range(len(ids))), 2.0)


def test_the_rate_counts_from_the_request_to_the_last_token() -> None:
    assert measured((1, 2, 3, 4), arrivals_s=(1.0, 1.0, 1.0, 2.0)).tokens_per_s == 2.0


def test_tokens_of_one_chunk_are_no_time_apart() -> None:
    run = measured((1, 2, 3, 4, 5), arrivals_s=(1.0, 1.0, 1.0, 1.0, 2.0))
    assert run.gap_s(50) == 0.0
    assert run.gap_s(95) == 1.0


def test_an_empty_answer_has_figures_too() -> None:
    run = measured((), arrivals_s=())
    assert (run.tokens_per_s, run.gap_s(50), run.first_token_s) == (0.0, 0.0, 2.0)
    assert run.tokens_per_target_step is None


def test_prefill_steps_are_not_decoding_steps() -> None:
    run = measured((1, 2), report(0), report(1, steps=5, prefill_steps=3, tokens=6))
    assert run.tokens_per_target_step == 3.0


def test_each_checking_stage_has_its_acceptance() -> None:
    chain = measured(
        (1,), report(0), report(1, checked=4, accepted=3, rollbacks=1, steps=2), report(2, checked=0, steps=2)
    )
    table = {name: ours for name, ours, _ in rows(chain, measured((1,), report(2, steps=2)))}
    assert table["accepted by stage 1"] == "75% (3 of 4)"
    assert table["rollbacks by stage 1"] == "1"
    assert table["accepted by stage 2"] == "none checked"
    assert "accepted by stage 0" not in table


def test_equal_token_ids_pass() -> None:
    check_identical(measured((1, 2)), measured((1, 2)))


@pytest.mark.parametrize(("alone", "position"), [((1, 9, 3), 1), ((1, 2), 2), ((1, 2, 3, 4), 3)])
def test_the_first_difference_fails_loudly(alone: tuple[int, ...], position: int) -> None:
    with pytest.raises(InvariantBroken, match=f"from token {position} on"):
        check_identical(measured((1, 2, 3)), measured(alone))
