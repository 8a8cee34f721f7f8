"""Runs the benchmarks of ``pipespec bench`` and shows what they found: tables on the terminal, JSON in a file."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from statistics import mean
from typing import Any

from rich.console import Console
from rich.table import Table

from pipespec.bench.paper import PaperRow, run_paper
from pipespec.bench.recorded import CHAINS
from pipespec.bench.scale import Cell, ScaleRow, run_scale
from pipespec.cli.local.temporary import temporary_pipeline

_TABLE_WIDTH = 118
"""A table keeps its columns where the output is not a terminal."""

console = Console(width=max(Console().width, _TABLE_WIDTH))


def show_scale(loads: Sequence[tuple[int, int]], *, tokens: int, out: Path | None) -> None:
    """Measure loads of (replicas, sessions)."""
    cells = [Cell(replicas, sessions, tokens) for replicas, sessions in loads]
    rows: list[ScaleRow] = []
    for row in run_scale(cells, temporary_pipeline):
        rows.append(row)
        console.print(
            f"{row.cell.replicas} replicas, {row.cell.sessions} sessions: {row.tokens_per_s:.0f} tokens/s"
        )
    _show(_scale_table(rows), [row.document() for row in rows], out)


def show_paper(*, sessions: int, tokens: int, out: Path | None) -> None:
    """Measure the paper's chains."""
    rows = list(run_paper(CHAINS, temporary_pipeline, sessions=sessions, tokens=tokens))
    _show(_paper_table(rows), [asdict(row) | {"speed_up": row.speed_up} for row in rows], out)


def _show(table: Table, document: list[dict[str, Any]], out: Path | None) -> None:
    console.print(table)
    if out is not None:
        out.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")


def _paper_table(rows: Sequence[PaperRow]) -> Table:
    table = Table(title="milliseconds per token, HumanEval chains of arXiv 2505.01572", title_justify="left")
    for name in ("chain", "target alone", "pipeline", "speed-up", "paper", "recorded runs"):
        table.add_column(name, justify="left" if name == "chain" else "right")
    for row in rows:
        table.add_row(
            row.chain.name,
            f"{mean(row.alone_ms):.1f}",
            f"{mean(row.pipeline_ms):.1f} ± {row.error_ms:.1f}",
            f"{row.speed_up:.2f}x",
            f"{row.chain.paper:.2f}x" if row.chain.paper else "-",
            ", ".join(f"{run:.2f}x" for run in row.chain.runs) or "-",
        )
    return table


def _scale_table(rows: Sequence[ScaleRow]) -> Table:
    table = Table(title="CPU in microseconds per token; times in ms, median / p99", title_justify="left")
    for name in ("replicas", "sessions", "tokens/s", "first token", "between tokens", "messages/s"):
        table.add_column(name, justify="right")
    for role in ("gateway", "broker", "stages", "clients", "cores busy"):
        table.add_column(role, justify="right")
    for row in rows:
        cpu = row.cpu_us_per_token
        table.add_row(
            str(row.cell.replicas),
            str(row.cell.sessions),
            f"{row.tokens_per_s:.0f}",
            f"{row.first_token_ms[0]:.0f} / {row.first_token_ms[1]:.0f}",
            f"{row.gap_ms[0]:.1f} / {row.gap_ms[1]:.1f}",
            f"{row.messages_per_s:.0f}",
            *(f"{cpu.get(role, 0.0):.0f}" for role in ("gateway", "broker", "stage", "client")),
            f"{row.cores_busy:.2f}",
        )
    return table
