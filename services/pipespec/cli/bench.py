"""``pipespec bench``: benchmarks of whole pipelines with emulated stages, through the real services."""

from __future__ import annotations

from pathlib import Path

import click

_DEFAULT_REPLICAS = "1,2,4,8"
_SESSIONS_PER_REPLICA = 16
MAX_REPLICAS, MAX_SESSIONS = 64, 1000


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
    from pipespec.cli.bench_report import show_scale  # noqa: PLC0415 - `--help` does without

    loads = [
        (number, load)
        for number in _numbers("--replicas", replicas, most=MAX_REPLICAS)
        for load in (
            _numbers("--sessions", sessions, most=MAX_SESSIONS)
            if sessions
            else [number * _SESSIONS_PER_REPLICA]
        )
    ]
    show_scale(loads, tokens=tokens, out=out)


@bench.command()
@click.option(
    "--sessions", default=4, show_default=True, type=click.IntRange(1, 16), help="Texts, side by side."
)
@click.option("--tokens", default=256, show_default=True, type=click.IntRange(8, 4096), help="Of each text.")
@click.option("--out", type=click.Path(dir_okay=False, path_type=Path), help="Write the figures as JSON.")
@click.option(
    "--plot",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Draw tokens over time (.svg or .png).",
)
def paper(*, sessions: int, tokens: int, out: Path | None, plot: Path | None) -> None:
    """The chains of the PipeSpec paper, with its recorded latencies and agreements, beside its figures."""
    from pipespec.cli.bench_report import show_paper  # noqa: PLC0415 - `--help` does without

    show_paper(sessions=sessions, tokens=tokens, out=out, plot=plot)


def _numbers(option: str, text: str, *, most: int) -> list[int]:
    try:
        numbers = [int(part) for part in text.split(",")]
    except ValueError:
        numbers = []
    if not numbers or not all(1 <= number <= most for number in numbers):
        raise click.UsageError(f"{option} {text!r}: expected numbers from 1 to {most}, separated by commas")
    return numbers
