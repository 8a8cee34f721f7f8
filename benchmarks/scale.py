"""Sessions 1 to 1,000 and replicas 1 to 32 of emulated stages through the real services; keeps the figures in results/."""

from __future__ import annotations

import json
from pathlib import Path

import click
from comparison.machine import cpu_name, describe, slug

from pipespec.cli.bench_report import show_scale

RESULTS = Path(__file__).parent / "results"
LOADS = ((1, 1), (1, 16), (2, 32), (4, 64), (8, 128), (16, 256), (32, 512), (32, 1000))
"""Replicas of every stage, and sessions at once."""


@click.command(context_settings={"show_default": True})
@click.option("--tokens", default=64, type=click.IntRange(2, 4096), help="Per session.")
def main(*, tokens: int) -> None:
    """Measures what broker, gateway and stages cost, and when this machine's processor is the limit."""
    document = {"machine": describe(cpu_name()), **show_scale(LOADS, tokens=tokens, out=None)}
    RESULTS.mkdir(exist_ok=True)
    file = RESULTS / f"scale-{slug(cpu_name())}.json"
    file.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
