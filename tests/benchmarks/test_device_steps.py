"""The device benchmark runs to its end on a CPU, in one call, and its floor counts what a step reads."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from benchmarks.device_steps import command
from benchmarks.device_steps.engines import BLOCK_SIZE
from benchmarks.device_steps.floor import bytes_of_token, bytes_of_weights
from benchmarks.device_steps.shapes import SHAPES
from click.testing import CliRunner

from pipespec.engine.assembly import run_ragged
from pipespec.engine.batch_builder import BatchBuilder, Share
from pipespec.engine.runner import ModelRunner
from pipespec.protocol.ids import TokenId

CPU = torch.device("cpu")
SCRIPT = Path(command.__file__).parent.parent / "gpu.py"


def test_one_call_checks_and_times_every_width_and_writes_what_it_measured(tmp_path: Path) -> None:
    options = ["--device", "cpu", "--shapes", "tiny", "--context", "16", "--out", str(tmp_path)]
    done = subprocess.run(
        [sys.executable, str(SCRIPT), *options], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    (file,) = tmp_path.glob("steps-*.json")
    (result,) = json.loads(file.read_text(encoding="utf-8"))["results"]
    timed = {(time["launch"], time["num_tokens"]) for time in result["times"] if time["num_sessions"] == 1}
    assert {
        (launch, width) for launch in ("captured", "kernel by kernel") for width in (1, 2, 4, 8, 16)
    } <= timed
    assert result["bf16"]["positions"] > 0
    assert "exact in float32" in done.stdout


def test_a_token_takes_in_the_floor_what_it_takes_in_the_pool() -> None:
    model = SHAPES["tiny"].build(device=CPU, dtype=torch.float32)
    expected = bytes_of_token(model)
    runner = ModelRunner(model, num_slots=2 * BLOCK_SIZE)
    builder = BatchBuilder(device=CPU, block_size=BLOCK_SIZE)
    run_ragged(runner, builder)([Share([TokenId(1)], 0, [1], range(1))])
    assert runner.pool.bytes_per_slot == expected


def test_the_floor_leaves_out_the_table_of_input_embeddings() -> None:
    shape = SHAPES["tiny"]
    model = shape.build(device=CPU, dtype=torch.float32)
    in_all = sum(weight.numel() for weight in model.parameters())
    assert bytes_of_weights(model) == 4 * (in_all - shape.vocab_size * shape.hidden_size)


def test_without_a_gpu_it_says_how_to_run() -> None:
    if torch.cuda.is_available():
        pytest.skip("there is one")
    result = CliRunner().invoke(command.main, [])
    assert result.exit_code == 1
    assert "--device cpu --shapes tiny" in result.output
