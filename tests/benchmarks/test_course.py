"""A comparison tells equal from different, goes on when a contender fails, and writes what it found."""

from __future__ import annotations

import io
import json
import pkgutil
from pathlib import Path

import pytest
from benchmarks.comparison import picture, table
from benchmarks.comparison.command import make_result
from benchmarks.comparison.contender import CONTENDERS, REFERENCE, Contender, choose
from benchmarks.comparison.course import Course
from benchmarks.comparison.memory import Churn
from benchmarks.comparison.plan import Plan
from benchmarks.comparison.prompt import Kind, Prompt
from benchmarks.comparison.result import Entry, Result, Status
from benchmarks.comparison.setup import Setup
from rich.console import Console

from benchmarks.conftest import MAX_TOKENS, run_here, unwatched
from engine.tiny import EOS_ID

LIAR = Contender(
    "liar", "another decoding", "one after another", "generate:one_after_another", {"repetition_penalty": 9.0}
)
BROKEN = Contender(
    "broken", "no such cache", "-", "generate:one_after_another", {"cache_implementation": "none such"}
)
MACHINE = {"device": "Some CPU @ 2 GHz", "date": "2026-01-01T00:00:00+00:00", "commit": "0123456789abcdef"}


def make_plan(contenders: tuple[Contender, ...], prompts: dict[Kind, tuple[Prompt, ...]]) -> Plan:
    return Plan(
        contenders=contenders,
        prompts=prompts,
        sessions=(1, 3),
        max_tokens=MAX_TOKENS,
        stop_ids=(EOS_ID,),
        check_prompts=1,
        check_tokens=4,
        rounds=1,
        churn=Churn(num_sessions=4, num_before=2, at_once=2),
    )


@pytest.fixture(scope="module")
def result(setup: Setup, prompts: dict[Kind, tuple[Prompt, ...]]) -> Result:
    contenders = (*choose("generate-assistant,engine"), LIAR, BROKEN)
    plan = make_plan(contenders, prompts)
    course = Course(plan, setup, watch=unwatched, run_job=run_here)
    course.run()
    return make_result(course, plan, setup, model="tiny", described=MACHINE)


def entry(result: Result, name: str) -> Entry:
    return next(one for one in result.entries if one.name == name)


def test_equal_contenders_are_equal_and_measured_everywhere(result: Result) -> None:
    for name, sessions in ((REFERENCE.name, [1, 3]), ("engine", [3])):
        one = entry(result, name)
        assert (one.status, one.forks) == (Status.EQUAL, [])
        assert [(cell.kind, cell.sessions) for cell in one.cells] == [(k, n) for k in Kind for n in sessions]
        assert all(cell.tokens_per_s > 0 and cell.num_different == 0 for cell in one.cells)


def test_a_contender_that_differs_is_marked_with_place_words_and_gap(result: Result) -> None:
    liar = entry(result, "liar")
    assert liar.status is Status.DIFFERS
    assert any(cell.num_different for cell in liar.cells)
    for fork in liar.forks:
        assert fork.expected != fork.got
        if fork.expected is not None and fork.got is not None:
            assert fork.gap is not None
            assert fork.gap > 0, "the reference takes the larger logit"
    assert any(fork.gap is not None for fork in liar.forks)


def test_a_contender_that_cannot_run_says_why_and_is_not_asked_again(result: Result) -> None:
    broken = entry(result, "broken")
    assert broken.status is Status.FAILED
    assert "none such" in broken.reason
    assert broken.cells == []


def test_without_an_assistant_its_row_says_so(result: Result) -> None:
    skipped = entry(result, "generate-assistant")
    assert skipped.status is Status.SKIPPED
    assert "--assistant" in skipped.reason


def test_the_json_holds_everything_in_plain_values(result: Result, tmp_path: Path) -> None:
    file = tmp_path / "new" / "engine.json"
    result.write(file)
    read = json.loads(file.read_text(encoding="utf-8"))
    assert set(read) == {
        "format",
        "machine",
        "settings",
        "prompts",
        "entries",
        "memory",
        "memory_reason",
    }
    assert read["settings"]["sessions"] == [1, 3]
    assert read["prompts"]["code"]["code/0"] == 5
    liar = next(one for one in read["entries"] if one["name"] == "liar")
    assert liar["status"] == "differs"
    assert set(liar["forks"][0]) >= {"kind", "prompt", "sessions", "position", "expected", "got", "gap"}
    assert set(liar["cells"][0]) >= {
        "tokens_per_s",
        "first_token_s",
        "peak_rss_mib",
        "tokens",
        "num_different",
    }
    assert read["memory"]["blocks_after"] == 0
    assert [path.name for path in file.parent.iterdir()] == ["engine.json"]


def test_the_table_hides_nothing(result: Result) -> None:
    output = io.StringIO()
    table.show(result, Console(file=output, width=200))
    text = output.getvalue()
    for said in ("≠", "failed", "none such", "--assistant", "outputs differ", "4 sessions came and went"):
        assert said in text


@pytest.mark.parametrize("suffix", [".svg", ".png"])
def test_the_picture_is_drawn_and_equal_results_give_equal_pictures(
    result: Result, tmp_path: Path, suffix: str
) -> None:
    files = [tmp_path / f"{n}{suffix}" for n in range(2)]
    for file in files:
        picture.draw(result, file)
    assert files[0].read_bytes() == files[1].read_bytes()
    assert files[0].stat().st_size > 5000


def test_every_entry_of_the_registry_exists_and_names_are_unique() -> None:
    for contender in CONTENDERS:
        assert callable(pkgutil.resolve_name(f"benchmarks.comparison.{contender.entry}"))
    assert len({contender.name for contender in CONTENDERS}) == len(CONTENDERS)
