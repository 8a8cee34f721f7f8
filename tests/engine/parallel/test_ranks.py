"""A model split over two processes says what the whole one says."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from engine.tiny import save_tiny_model

TESTS = Path(__file__).parents[2]
FAMILIES = ("llama", "qwen2", "mistral", "gemma3")


@pytest.fixture(scope="module")
def findings(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What two ranks, started by torchrun on this machine's CPU, found out; see ``two_ranks``."""
    root = tmp_path_factory.mktemp("split")
    folders = [str(save_tiny_model(root / family, seed=1, family=family)) for family in FAMILIES]
    report = root / "findings.json"
    torchrun = (sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")
    ended = subprocess.run(
        [*torchrun, "-m", "engine.parallel.two_ranks", str(report), *folders],
        env={**os.environ, "PYTHONPATH": str(TESTS), "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""},
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    return json.loads(report.read_text())


@pytest.mark.parametrize("family", FAMILIES)
def test_the_logits_of_a_split_model_are_those_of_the_whole_one(findings, family):
    assert findings[family]["logits_off_by"] < 5e-5


@pytest.mark.parametrize("family", FAMILIES)
def test_the_picks_of_a_split_engine_are_those_of_generate_under_any_schedule(findings, family):
    assert findings[family]["picked"] == findings[family]["expected"]


def test_a_split_model_is_another_identity(findings):
    """Partial sums round differently, so a split and a whole replica never serve one session."""
    assert all(findings[family]["is_another_identity"] for family in FAMILIES)
