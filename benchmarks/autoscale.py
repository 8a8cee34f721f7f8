"""The autoscaler beside Kubernetes' HPA on a simulated fleet: goal kept and GPU-hours; keeps figures and picture in results/."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import click

ROOT = Path(__file__).parent
sys.path.insert(0, str(ROOT.parent))  # so that it runs from any folder

from benchmarks.autoscaling.comparison import compared  # noqa: E402
from benchmarks.autoscaling.fleets import FLEETS  # noqa: E402
from benchmarks.autoscaling.report import HEAD, document, draw, line  # noqa: E402
from benchmarks.autoscaling.run import Cluster  # noqa: E402
from benchmarks.autoscaling.speeds import all_shares, filled, loaded, saved  # noqa: E402

from benchmarks.autoscaling import loads as known_loads  # noqa: E402 - after the path

RESULTS = ROOT / "results"


@click.command(context_settings={"show_default": True})
@click.option(
    "--fleet", default="pair", type=click.Choice(sorted(FLEETS)), help="1B + 70B, or 1B + 8B + 70B."
)
@click.option(
    "--goal-ms", default=90.0, type=click.FloatRange(min=1), help="Per token, for nine of ten sessions."
)
@click.option("--simulate", is_flag=True, help="Fill the table of speeds anew: minutes.")
def main(*, fleet: str, goal_ms: float, simulate: bool) -> None:
    """A day in seconds: sessions of steps, spikes, night and day, and two recordings of Azure."""
    pipeline = FLEETS[fleet]()
    table = known_loads.RECORDED / f"speeds-{fleet}.json"
    if simulate or not table.exists():
        saved(filled(pipeline, all_shares(len(pipeline.stages))), table)
    cluster = Cluster(pipeline, loaded(json.loads(table.read_text(encoding="utf-8"))), goal_ms)
    print(HEAD)
    rows = compared(cluster, known_loads.all_loads(), on_row=lambda row: print(line(row), flush=True))
    stem = RESULTS / f"autoscale-{fleet}-{goal_ms:.0f}ms"
    RESULTS.mkdir(exist_ok=True)
    text = json.dumps({"fleet": fleet, "goal_ms": goal_ms, "rows": document(rows)}, indent=1)
    stem.with_suffix(".json").write_text(text + "\n", encoding="utf-8")
    draw(rows, stem.with_suffix(".svg"))


if __name__ == "__main__":
    main()
