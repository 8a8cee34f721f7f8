"""``make sim``: a campaign of seeds, or one seed of a mode told in full."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import click
from benchmarks.comparison.machine import cpu_name, describe
from rich.console import Console
from rich.table import Table

from sim import campaign, regressions
from sim.clients import Violation
from sim.ledger import ROOT, Ledger
from sim.modes import MODES, case_of
from sim.plan import dump_case
from sim.scenario import run_case

RESULTS = ROOT / "benchmarks" / "results" / "sim.json"
LEDGER = ROOT / "build" / "sim.json"


@click.command(context_settings={"show_default": True})
@click.option("--seeds", default=100_000, type=click.IntRange(1), help="Over all modes.")
@click.option(
    "--first", default=1000, type=click.IntRange(0), help="Of every mode; the suite has those below."
)
@click.option("--modes", default=",".join(MODES), help="Which, with commas.")
@click.option("--jobs", default=os.cpu_count() or 1, type=click.IntRange(1), help="Processes.")
@click.option("--afresh", is_flag=True, help="Do not go on where the last campaign stopped.")
@click.option("--out", default=RESULTS, type=click.Path(path_type=Path), help="Where the figures go.")
@click.option("--mode", type=click.Choice(list(MODES)), help="With --seed: run that one alone.")
@click.option("--seed", type=click.IntRange(0))
@click.option("--keep", metavar="WHY", help="With --seed: keep the case among the regressions.")
def main(
    *,
    seeds: int,
    first: int,
    modes: str,
    jobs: int,
    afresh: bool,
    out: Path,
    mode: str | None,
    seed: int | None,
    keep: str | None,
) -> None:
    """Run the protocol core under faults in virtual time; every event is checked."""
    if mode is not None and seed is not None:
        _one(mode, seed, keep)
        return
    goal = campaign.Goal(seeds, _modes(modes), first, jobs)
    console = Console()
    ledger = Ledger.open(LEDGER, chunk=campaign.CHUNK, afresh=afresh)
    is_done = campaign.run(goal, ledger, LEDGER, console)
    _tell(ledger, console)
    if not is_done:
        console.print("stopped; the same command goes on from here")
        sys.exit(130)
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(_document(ledger), indent=1) + "\n", encoding="utf-8")
    sys.exit(1 if ledger.total.violations else 0)


def _modes(text: str) -> tuple[str, ...]:
    modes = tuple(text.split(","))
    unknown = [mode for mode in modes if mode not in MODES]
    if unknown:
        raise click.BadParameter(f"{', '.join(unknown)}; there are {', '.join(MODES)}", param_hint="--modes")
    return modes


def _one(mode: str, seed: int, keep: str | None) -> None:
    case = case_of(mode, seed)
    if keep is not None:
        regressions.keep(case, keep)
    click.echo(dump_case(case))
    try:
        click.echo(run_case(case))
    except Violation as violation:
        click.echo(violation)
        sys.exit(1)


def _document(ledger: Ledger) -> dict[str, Any]:
    total = ledger.total
    return {
        "machine": describe(cpu_name()),
        "sources": ledger.sources,
        "seconds": round(ledger.seconds, 1),
        "seeds": {mode: share.seeds for mode, share in ledger.shares.items()},
        "sessions": total.sessions,
        "tokens": total.tokens,
        "messages": total.messages,
        "core_seconds_per_seed": {
            mode: round(share.busy_s / max(1, share.seeds), 4) for mode, share in ledger.shares.items()
        },
        "faults": dict(sorted(total.faults.items())),
        "longest_pause_ms": total.pause_ms(),
        "violations": total.violations,
    }


def _tell(ledger: Ledger, console: Console) -> None:
    table = Table("mode", "seeds", "sessions", "tokens", "messages", "core ms/seed", "violations")
    for mode, share in [*ledger.shares.items(), ("all", ledger.total)]:
        ms = 1000 * share.busy_s / max(1, share.seeds)
        cells = (
            share.seeds,
            share.sessions,
            share.tokens,
            share.messages,
            f"{ms:.0f}",
            len(share.violations),
        )
        table.add_row(mode, *(f"{cell:,}" if isinstance(cell, int) else cell for cell in cells))
    console.print(table)


if __name__ == "__main__":
    main()
