"""``pipespec bench``: benchmarks of whole pipelines with emulated stages, through the real services."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from statistics import mean

import click
from rich.console import Console
from rich.table import Table

from pipespec.bench.paper import run_paper
from pipespec.bench.recorded import CHAINS
from pipespec.bench.scale import Cell, ScaleRow, run_scale
from pipespec.cli.local.temporary import temporary_pipeline

_DEFAULT_REPLICAS = "1,2,4,8"
_SESSIONS_PER_REPLICA = 16

console = Console()
_TABLE_WIDTH = 118
"""A table keeps its columns where the output is not a terminal."""


@click.group()
def bench() -> None:
    """Measure what the services themselves cost."""


@bench.command()
@click.option("--replicas", default=_DEFAULT_REPLICAS, show_default=True, help="Of every stage, by comma.")
@click.option(
    "--sessions",
    help=f"At once, by comma; each with every number of replicas. Default: {_SESSIONS_PER_REPLICA} per replica.",
)
@click.option("--tokens", default=64, show_default=True, type=click.IntRange(2, 4096), help="Per session.")
@click.option("--out", type=click.Path(dir_okay=False, path_type=Path), help="Write the figures as JSON.")
def scale(*, replicas: str, sessions: str | None, tokens: int, out: Path | None) -> None:
    """Throughput and latency by sessions and replicas, messages and CPU time per token."""
    cells = [
        Cell(number, load, tokens)
        for number in _numbers("--replicas", replicas)
        for load in (_numbers("--sessions", sessions) if sessions else [number * _SESSIONS_PER_REPLICA])
    ]
    rows: list[ScaleRow] = []
    for row in run_scale(cells, temporary_pipeline):
        rows.append(row)
        console.print(
            f"{row.cell.replicas} replicas, {row.cell.sessions} sessions: {row.tokens_per_s:.0f} tokens/s"
        )
    console.print(_table(rows), width=max(console.width, _TABLE_WIDTH))
    if out is not None:
        out.write_text(json.dumps([row.document() for row in rows], indent=1) + "\n", encoding="utf-8")


@bench.command()
@click.option(
    "--sessions", default=4, show_default=True, type=click.IntRange(1, 16), help="Texts, side by side."
)
@click.option("--tokens", default=256, show_default=True, type=click.IntRange(8, 4096), help="Of each text.")
@click.option("--out", type=click.Path(dir_okay=False, path_type=Path), help="Write the figures as JSON.")
def paper(*, sessions: int, tokens: int, out: Path | None) -> None:
    """The chains of the PipeSpec paper, with its recorded latencies and agreements, beside its figures."""
    rows = list(run_paper(CHAINS, temporary_pipeline, sessions=sessions, tokens=tokens))
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
    console.print(table, width=max(console.width, _TABLE_WIDTH))
    if out is not None:
        document = [asdict(row) | {"speed_up": row.speed_up} for row in rows]
        out.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")


def _numbers(option: str, text: str) -> list[int]:
    try:
        numbers = [int(part) for part in text.split(",")]
    except ValueError:
        numbers = []
    if not numbers or not all(1 <= number <= 1000 for number in numbers):
        raise click.UsageError(f"{option} {text!r}: expected numbers from 1 to 1000, separated by commas")
    return numbers


def _table(rows: list[ScaleRow]) -> Table:
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
