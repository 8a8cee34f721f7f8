"""``pipespec profile``: a running pipeline, measured, gives a file that says what it is."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from pipespec.cli.main import ASKED_WRONGLY, FAILED, run
from pipespec.ops.pipeline import load_pipeline

CHAIN = {
    "name": "measured",
    "stages": [
        {"kind": "emulated", "lookahead": 6, "emulation": {"latency_ms": {1: 3}, "agreement": 0.8}},
        {"kind": "emulated", "emulation": {"stands_for": "big", "latency_ms": {1: 12, 2: 20, 7: 22}}},
    ],
}


@pytest.mark.e2e
@pytest.mark.timeout(180)
def test_what_was_set_is_found_again_through_the_real_services(tmp_path: Path, cache: Path) -> None:
    chain, prompts, out = tmp_path / "chain.yaml", tmp_path / "prompts.txt", tmp_path / "profile.yaml"
    chain.write_text(yaml.safe_dump(CHAIN), encoding="utf-8")
    prompts.write_text("one\n\ntwo, and more\nthree\n", encoding="utf-8")
    asked = ["--prompts", str(prompts), "--tokens", "128", "--out", str(out)]
    assert run(["profile", str(chain), *asked]) == 0
    draft, target = load_pipeline(out).stages
    assert draft.emulation is not None
    assert target.emulation is not None
    assert draft.lookahead == 6
    assert draft.emulation.agreement == pytest.approx(0.8, abs=0.12)
    assert draft.emulation.latency_ms[1] >= 3
    assert target.emulation.stands_for == "big"
    assert target.emulation.latency_ms[1] >= 12
    assert max(target.emulation.latency_ms.values()) >= 20


def test_a_file_without_prompts_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    empty = tmp_path / "empty.txt"
    empty.write_text("\n\n", encoding="utf-8")
    assert run(["profile", "--prompts", str(empty)]) == ASKED_WRONGLY
    assert "one per line" in capsys.readouterr().err


def test_a_place_that_cannot_be_written_is_told_before_anything_is_measured(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["profile", "--out", str(tmp_path / "none" / "profile.yaml")]) == ASKED_WRONGLY
    assert "there is no folder" in capsys.readouterr().err


def test_without_a_pipeline_there_is_nothing_to_measure(
    cache: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["profile"]) == FAILED
    assert "pipespec up" in capsys.readouterr().err
