"""``pipespec plan``: from a file to advice, figures and a picture; and what it refuses."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from pipespec.cli.main import ASKED_WRONGLY, run

CHAIN = {
    "name": "small",
    "stages": [
        {
            "kind": "emulated",
            "lookahead": 2,
            "emulation": {"stands_for": "draft", "latency_ms": {1: 10}, "agreement": 0.9},
        },
        {"kind": "emulated", "emulation": {"stands_for": "target", "latency_ms": {1: 100}}},
    ],
}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """The chain as a file."""
    path = tmp_path / "chain.yaml"
    path.write_text(yaml.safe_dump(CHAIN), encoding="utf-8")
    return path


def test_it_says_what_is_best_and_what_the_file_costs(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["plan", str(file)]) == 0
    shown = capsys.readouterr().out
    assert "Best: draft > target" in shown
    assert "The lookaheads in the file cost" in shown
    assert "synchronous" in shown


def test_json_holds_the_figures_and_the_replicas_of_a_load(
    file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = ["--sessions", "2", "--latency-ms", "90", "--tokens", "16", "--prompt", "4", "--json"]
    assert run(["plan", str(file), *asked]) == 0
    plan = json.loads(capsys.readouterr().out)
    assert plan["alone"]["ms_per_token"] == pytest.approx(100.0, rel=0.01)
    assert plan["best"]["speed_up"] > 2
    assert plan["best"]["ms_per_token"] == pytest.approx(plan["best"]["analytic_ms_per_token"], rel=0.2)
    assert plan["load"]["is_met"]
    assert len(plan["load"]["replicas"]) == 2


def test_a_rate_is_as_many_sessions_as_are_there_at_once_when_the_goal_is_kept(
    file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """2 requests per second, 16 tokens of 125 ms each: four sessions (Little's law)."""
    asked = ["--rate", "2", "--latency-ms", "125", "--tokens", "16", "--prompt", "4", "--json"]
    assert run(["plan", str(file), *asked]) == 0
    assert json.loads(capsys.readouterr().out)["load"]["sessions"] == 4


def test_a_picture_is_drawn_on_request(file: Path, tmp_path: Path) -> None:
    assert run(["plan", str(file), "--plot", str(tmp_path / "plan.svg")]) == 0
    assert "lookahead" in (tmp_path / "plan.svg").read_text()


@pytest.mark.parametrize(
    "asked",
    [
        ["--sessions", "2"],
        ["--latency-ms", "50"],
        ["--sessions", "2", "--rate", "1", "--latency-ms", "50"],
        ["--rate", "nan", "--latency-ms", "50"],
        ["--plot", "plan.txt"],
        ["--plot", "no/such/folder/plan.svg"],
    ],
)
def test_half_a_demand_and_unknown_formats_are_refused(file: Path, asked: list[str]) -> None:
    assert run(["plan", str(file), *asked]) == ASKED_WRONGLY


def test_a_pipeline_that_was_not_measured_is_refused_with_the_way_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "real.yaml"
    path.write_text("stages: [{kind: suffix}, {model: some/model}]", encoding="utf-8")
    assert run(["plan", str(path)]) == ASKED_WRONGLY
    assert "pipespec profile" in capsys.readouterr().err


def test_requests_that_the_target_cannot_hold_are_refused_before_anything_is_simulated(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "short.yaml"
    path.write_text("stages: [{kind: emulated, emulation: {latency_ms: {1: 9}, context_len: 100}}]")
    assert run(["plan", str(path), "--sessions", "2", "--latency-ms", "50"]) == ASKED_WRONGLY
    assert "256 + 128 tokens" in capsys.readouterr().err


def test_a_context_too_short_for_a_time_per_token_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "short.yaml"
    path.write_text("stages: [{kind: emulated, emulation: {latency_ms: {1: 9}, context_len: 2}}]")
    assert run(["plan", str(path)]) == ASKED_WRONGLY
    assert "stages[0].emulation.context_len is 2" in capsys.readouterr().err


def test_a_table_keeps_its_words_where_names_are_long(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    document = {**CHAIN, "stages": [dict(one) for one in CHAIN["stages"]]}
    for one, name in zip(document["stages"], ("d" * 48, "t" * 48), strict=True):
        one["emulation"] = {**one["emulation"], "stands_for": name}
    path = tmp_path / "long.yaml"
    path.write_text(yaml.safe_dump(document), encoding="utf-8")
    assert run(["plan", str(path)]) == 0
    shown = capsys.readouterr().out
    assert f"{'d' * 48} > {'t' * 48}" in shown
    assert "← best" in shown
    assert "…" not in shown
