"""Shows what ``pipespec deploy check`` found: tables for people, a document for programs."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.table import Table

from pipespec.cli.cluster.advice import Advice
from pipespec.cli.cluster.footprint import Footprint, StageFootprint, what_runs

_WIDTH = 110


def show(footprint: Footprint, advice: Advice) -> None:
    """Print it."""
    console = Console(highlight=False, width=max(Console().width, _WIDTH))
    console.print(_stages(footprint))
    least, most = gpus_needed(footprint)
    console.print(f"GPUs: {_range(least, most)}" if most else "GPUs: none")
    if advice.comparison is None:
        console.print(
            "Expected tokens/s: not known. Measure with `pipespec profile PIPELINE --out profile.yaml`, and give --profile."
        )
    else:
        given = advice.comparison.as_given
        console.print(
            f"One stream: {given.prediction.ms_per_token:.1f} ms/token, {1e3 / given.prediction.ms_per_token:.1f} tokens/s, "
            f"{given.speed_up:.2f}x the target alone"
        )
        console.print(_load(advice))
    for warning in advice.warnings:
        console.print(f"[yellow]warning:[/yellow] {warning}", soft_wrap=True)
    if not advice.warnings:
        console.print("nothing to warn of")


def _stages(footprint: Footprint) -> Table:
    table = Table(box=None, pad_edge=False)
    for heading in ("stage", "runs", "workload", "replicas", "scaled by", "accelerators each"):
        table.add_column(heading, overflow="fold")
    for rank, (stage, settings) in enumerate(zip(footprint.stages, footprint.pipeline.stages, strict=True)):
        each = ", ".join(f"{count} {resource}" for resource, count in stage.accelerators.items())
        table.add_row(
            str(rank),
            what_runs(settings),
            stage.workload,
            _range(stage.least, stage.most),
            stage.scaler or "-",
            each or "-",
        )
    return table


def _load(advice: Advice) -> Table:
    table = Table(box=None, pad_edge=False)
    for heading in ("streams at once", "ms/token, 9 of 10", "tokens/s of all"):
        table.add_column(heading, justify="right")
    for one in advice.expected:
        table.add_row(str(one.sessions), f"{one.ms_per_token:.1f}", f"{one.tokens_per_s:.0f}")
    return table


def gpus_needed(footprint: Footprint) -> tuple[int, int]:
    """With the least and with the most replicas."""

    def needed(stage: StageFootprint, replicas: int) -> int:
        return replicas * stage.num_accelerators

    least = sum(needed(stage, stage.least) for stage in footprint.stages)
    return least, sum(needed(stage, stage.most) for stage in footprint.stages)


def _range(least: int, most: int) -> str:
    return str(least) if least == most else f"{least} to {most}"


def document(footprint: Footprint, advice: Advice) -> dict[str, Any]:
    """For JSON; times are milliseconds."""
    least, most = gpus_needed(footprint)
    given = advice.comparison.as_given if advice.comparison else None
    return {
        "gpus": {"least": least, "most": most},
        "stages": [
            {
                "workload": stage.workload,
                "replicas": {"least": stage.least, "most": stage.most},
                "scaled_by": stage.scaler or None,
                "accelerators": stage.accelerators,
            }
            for stage in footprint.stages
        ],
        "one_stream": given and {"ms_per_token": given.prediction.ms_per_token, "speed_up": given.speed_up},
        "load": [
            {"sessions": one.sessions, "ms_per_token": one.ms_per_token, "tokens_per_s": one.tokens_per_s}
            for one in advice.expected
        ],
        "warnings": list(advice.warnings),
    }
