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
from pipespec.bench.recorded import CHAINS, SEVENTY_B, Mode
from pipespec.bench.scale import BrokerLimit, Cell, ScaleRow, measure_broker, measure_gateway, run_scale
from pipespec.cli.local.temporary import temporary_pipeline
from pipespec.cli.outputs import check_can_write
from pipespec.cli.pictures import check_can_draw

_TABLE_WIDTH = 140
"""A table keeps its columns where the output is not a terminal."""

console = Console(width=max(Console().width, _TABLE_WIDTH))


def show_scale(loads: Sequence[tuple[int, int]], *, tokens: int, out: Path | None) -> dict[str, Any]:
    """Measure loads of (replicas, sessions), and what one broker can do; the figures for JSON."""
    check_can_write("--out", out)
    cells = [Cell(replicas, sessions, tokens) for replicas, sessions in loads]
    rows: list[ScaleRow] = []
    for row in run_scale(cells, temporary_pipeline):
        rows.append(row)
        console.print(
            f"{row.cell.replicas} replicas, {row.cell.sessions} sessions: {row.tokens_per_s:.0f} tokens/s"
        )
    limit, bursts = measure_broker(temporary_pipeline), measure_gateway(temporary_pipeline)
    document = {
        "loads": [row.document() for row in rows],
        "gateway": bursts.document(),
        "broker": asdict(limit),
    }
    _show(_scale_table(rows), document, out)
    console.print(_limits_line(rows, bursts, limit), highlight=False)
    return document


def show_paper(*, sessions: int, tokens: int, out: Path | None, plot: Path | None) -> list[PaperRow]:
    """Measure the paper's chains."""
    check_can_write("--out", out)
    if plot is not None:
        check_can_draw(plot)
    rows: list[PaperRow] = []
    for row in run_paper(CHAINS, temporary_pipeline, sessions=sessions, tokens=tokens):
        rows.append(row)
        console.print(f"{row.chain.name}: {row.speed_up(Mode.PIPELINE):.2f}x the target alone")
    _show(_paper_table(rows), [row.document() for row in rows], out)
    console.print(_added_line(rows), highlight=False)
    if plot is not None:
        from pipespec.cli.paper_picture import draw  # noqa: PLC0415 - matplotlib is in the extra 'bench'

        draw(rows, plot)
    return rows


def _show(table: Table, document: object, out: Path | None) -> None:
    console.print(table)
    if out is not None:
        out.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")


def _paper_table(rows: Sequence[PaperRow]) -> Table:
    table = Table(title="milliseconds per token, HumanEval chains of arXiv 2505.01572", title_justify="left")
    names = ("chain", "mode", "services", "speed-up", "simulator", "closed form", "paper", "recorded runs")
    for name in names:
        table.add_column(name, justify="left" if name in ("chain", "mode") else "right", no_wrap=True)
    for row in rows:
        for mode, cell in row.cells.items():
            paper = row.chain.paper.get(mode)
            table.add_row(
                row.chain.name if mode is Mode.ALONE else "",
                mode.value,
                f"{cell.mean_ms:.1f} ± {cell.error_ms:.1f}",
                f"{row.speed_up(mode):.2f}x",
                _beside(cell.simulated_ms, cell.mean_ms),
                _beside(cell.analytic_ms, cell.mean_ms),
                f"{paper:.2f}x" if paper else "-",
                ", ".join(f"{run:.2f}x" for run in row.chain.runs.get(mode, ())) or "-",
            )
    return table


def _beside(predicted_ms: float, measured_ms: float) -> str:
    return f"{predicted_ms:.1f} ({100 * (predicted_ms / measured_ms - 1):+.1f} %)"


def _added_line(rows: Sequence[PaperRow]) -> str:
    added = mean(row.added_ms for row in rows)
    verify_ms = SEVENTY_B["latency_ms"][2]
    hop, slow_hop = (mean(row.hop_ms[index] for row in rows) for index in (0, 1))
    return (
        f"The services add {added:.2f} ms to a step of the target: {100 * added / verify_ms:.2f} % of a verification. One hop "
        f"through the broker takes {hop:.2f} ms (p99 {slow_hop:.2f})."
    )


def _limits_line(rows: Sequence[ScaleRow], bursts: ScaleRow, limit: BrokerLimit) -> str:
    gateway_us = min(row.cpu_us_per_token["gateway"] for row in rows)
    return (
        f"One gateway streamed {bursts.tokens_per_s:.0f} tokens/s to {bursts.cell.sessions} sessions where steps bring many tokens; by its "
        f"processor time in the loads above, a core of it streams {1e6 / gateway_us:.0f}, and one of a broker forwards {1e6 / limit.cpu_us:.0f} "
        f"messages/s ({limit.messages_per_s:.0f} were reached here, sender and receiver beside it). One hop takes "
        f"{limit.hop_ms[0]:.2f} ms (p99 {limit.hop_ms[1]:.2f})."
    )


def _scale_table(rows: Sequence[ScaleRow]) -> Table:
    table = Table(title="CPU in microseconds per token; times in ms, median / p99", title_justify="left")
    for name in ("replicas", "sessions", "tokens/s", "first token", "between tokens", "messages/s"):
        table.add_column(name, justify="right", no_wrap=True)
    for role in ("gateway", "broker", "stages", "clients", "cores busy"):
        table.add_column(role, justify="right", no_wrap=True)
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
