"""``pipespec models wait``: for who fills a shared volume."""

from __future__ import annotations

import shutil
import threading
from pathlib import Path

import pytest

from engine.tiny import save_tiny_model
from pipespec.cli import models
from pipespec.cli.main import FAILED, run


def test_it_waits_until_somebody_else_has_made_the_model_ready(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(models, "_LOOK_EVERY_S", 0.02)
    elsewhere, here = save_tiny_model(tmp_path / "elsewhere", seed=1), tmp_path / "here"
    filling = threading.Timer(0.1, lambda: shutil.move(elsewhere, here))
    filling.start()
    assert run(["models", "wait", str(here), "--timeout-s", "60"]) == 0
    filling.join()
    assert capsys.readouterr().out.strip() == str(here)


def test_it_gives_up_in_the_end_and_says_what_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(models, "_LOOK_EVERY_S", 0.01)
    folder = save_tiny_model(tmp_path / "model", seed=1)
    (folder / "model.safetensors").unlink()
    assert run(["models", "wait", str(folder), "--timeout-s", "0.05"]) == FAILED
    assert "lacks *.safetensors" in capsys.readouterr().err
    assert run(["models", "wait", str(folder), "--text-only"]) == 0
