"""``pipespec top``: what it refuses; what it shows of real processes is in ``e2e/test_emulated_processes.py``."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipespec.cli.main import ASKED_WRONGLY, FAILED, run


def test_without_a_pipeline_it_says_how_to_get_one(cache: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["top", "--once"]) == FAILED
    assert "pipespec up" in capsys.readouterr().err


def test_a_name_and_a_file_exclude_each_other(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["top", "--name", "x", "--pipeline", str(tmp_path / "y.yaml")]) == ASKED_WRONGLY
    assert "exclude each other" in capsys.readouterr().err
