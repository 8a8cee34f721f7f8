"""The paper's chains through the real services, beside what predicts them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pipespec.bench.paper import run_paper
from pipespec.bench.recorded import CHAINS, Mode
from pipespec.cli.local.temporary import temporary_pipeline
from pipespec.cli.paper_picture import draw


@pytest.mark.timeout(180)
def test_a_chain_is_measured_in_all_modes_beside_simulator_and_closed_forms(tmp_path: Path) -> None:
    (row,) = run_paper(CHAINS[:1], temporary_pipeline, sessions=2, tokens=24)
    assert set(row.cells) == set(Mode)
    for cell in row.cells.values():
        assert len(cell.ms) == 2
        assert min(cell.ms) > 0
        assert cell.analytic_ms > 0
    steps_ms = {
        mode: row.cells[mode].simulated_ms for mode in Mode
    }  # on a virtual clock: what was measured varies
    assert steps_ms[Mode.ALONE] == pytest.approx(row.target_ms, rel=0.02)
    assert steps_ms[Mode.PIPELINE] < steps_ms[Mode.SYNCHRONOUS] < steps_ms[Mode.ALONE]
    assert row.added_ms == pytest.approx(row.cells[Mode.ALONE].mean_ms - row.target_ms)
    assert 0 < row.hop_ms[0] <= row.hop_ms[1]
    assert json.loads(json.dumps(row.document()))["cells"]["pipeline"]["speed_up"] > 0
    draw([row], tmp_path / "paper.svg")
    assert "8B-70B" in (tmp_path / "paper.svg").read_text()
