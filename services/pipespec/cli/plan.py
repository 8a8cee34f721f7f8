"""``pipespec plan``: which stages pay, how far ahead, and how many replicas of each."""

from __future__ import annotations

import math
from pathlib import Path

import click


@click.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.option(
    "--sessions", type=click.IntRange(1, 100_000), help="Size the replicas for so many streams at once."
)
@click.option(
    "--rate", type=click.FloatRange(0, 1e6, min_open=True), help="Size them for so many requests per second."
)
@click.option(
    "--latency-ms",
    type=click.FloatRange(0, 1e6, min_open=True),
    help="Per token, that nine of ten streams keep under that load.",
)
@click.option(
    "--prompt", default=256, show_default=True, type=click.IntRange(1, 100_000), help="Tokens of a request."
)
@click.option(
    "--tokens", default=128, show_default=True, type=click.IntRange(2, 4096), help="Generated per request."
)
@click.option("--json", "as_json", is_flag=True, help="Print the figures as JSON.")
@click.option(
    "--plot",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Draw time per token by lookahead (.svg or .png).",
)
def plan(
    file: Path,
    *,
    sessions: int | None,
    rate: float | None,
    latency_ms: float | None,
    prompt: int,
    tokens: int,
    as_json: bool,
    plot: Path | None,
) -> None:
    """Predict what the pipeline in FILE brings, and find the stages, lookaheads and replicas that serve best.

    FILE tells latencies and agreements: its stages are emulated, as `pipespec profile` writes them.
    """
    from pipespec.cli.local.document import read_pipeline  # noqa: PLC0415 - `--help` does without
    from pipespec.cli.planning import make_plan  # noqa: PLC0415
    from pipespec.planner.sizing import Demand  # noqa: PLC0415

    load = _load(sessions, rate, latency_ms)
    pipeline = read_pipeline(file)
    demand = None
    if load is not None:
        count, goal_ms = load
        if sessions is None:  # Little's law: at the goal, a request is there for so long
            count = max(1, round(count * tokens * goal_ms / 1000))
        demand = Demand(sessions=round(count), goal_ms=goal_ms, prompt=prompt, tokens=tokens)
    make_plan(pipeline, demand, as_json=as_json, plot=plot)


def _load(sessions: int | None, rate: float | None, latency_ms: float | None) -> tuple[float, float] | None:
    """Sessions or requests per second, and the goal."""
    if sessions is not None and rate is not None:
        raise click.UsageError("give either --sessions or --rate")
    amount = sessions if sessions is not None else rate
    if latency_ms is not None and not math.isfinite(latency_ms):
        raise click.UsageError("--latency-ms must be a number of milliseconds")
    if rate is not None and not math.isfinite(rate):
        raise click.UsageError("--rate must be a number of requests per second")
    if (amount is None) != (latency_ms is None):
        raise click.UsageError("--latency-ms needs --sessions or --rate, and they need it")
    return None if amount is None or latency_ms is None else (amount, latency_ms)
