"""The paper's chains through the real services, on more texts than `pipespec bench paper`; keeps figures and picture in results/."""

from __future__ import annotations

import json
from pathlib import Path

import click
from comparison.machine import cpu_name, describe, slug

from pipespec.cli.bench_report import show_paper

RESULTS = Path(__file__).parent / "results"


@click.command(context_settings={"show_default": True})
@click.option("--sessions", default=12, type=click.IntRange(2, 32), help="Texts, side by side.")
@click.option("--tokens", default=512, type=click.IntRange(8, 4096), help="Of each text.")
def main(*, sessions: int, tokens: int) -> None:
    """Emulates the chains of arXiv 2505.01572 with its recorded latencies and agreements."""
    stem = RESULTS / f"paper-{slug(cpu_name())}"
    RESULTS.mkdir(exist_ok=True)
    rows = show_paper(sessions=sessions, tokens=tokens, out=None, plot=stem.with_suffix(".svg"))
    document = {"machine": describe(cpu_name()), "rows": [row.document() for row in rows]}
    stem.with_suffix(".json").write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
