"""Sixty-four sessions for half an hour while messages are lost and stages die: every output exact, and nothing left behind.

Real processes of an emulated pipeline, a broker of our own that hits one message in a hundred, stage replicas that are
killed or drained and come back. Memory, file descriptors and sessions of every process are measured at rest before and after.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click
from comparison.machine import cpu_name, describe
from rich.console import Console
from rich.progress import Progress
from rich.table import Table
from soaking.clients import Clients
from soaking.fleet import Fleet, Sample, running

RESULTS = Path(__file__).parent / "results" / "soak.json"
SAMPLE_S = 5.0
QUIET_S = 60.0
"""By then every lease has run out."""
SETTLED_S = 3.0
WARM_UP_S = 180.0
"""At most, before the first measurement: by then what is remembered of peers is as much as it gets."""
MORE_MIB = 16.0
"""Of one process at rest, after against before; interpreters keep some of what they once needed."""
MORE_FDS = 2
_KEPT_SAMPLES = 200

console = Console(width=max(Console().width, 120))
Samples = dict[str, Sample]


@asynccontextmanager
async def disturbed(fleet: Fleet, every_s: float) -> AsyncIterator[None]:
    """End a stage replica now and then while the block runs."""

    async def disturb() -> None:
        while True:
            await asyncio.sleep(every_s)
            await asyncio.to_thread(fleet.end_one)

    task = asyncio.create_task(disturb())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def at_rest(fleet: Fleet) -> tuple[Samples, float]:
    """Samples when no sessions are left, and how long that took; what is left after ``QUIET_S`` shows in them."""
    began_s = time.monotonic()
    while not await asyncio.to_thread(fleet.is_quiet) and time.monotonic() - began_s < QUIET_S:  # noqa: ASYNC110 - other processes tell no event
        await asyncio.sleep(0.5)
    took_s = time.monotonic() - began_s
    await asyncio.sleep(SETTLED_S)
    return await asyncio.to_thread(fleet.sample), took_s


async def load(clients: Clients, seconds: float, each: Any = None) -> None:
    """Run the clients for so long; ``each`` is awaited every ``SAMPLE_S``."""
    over = asyncio.Event()
    task = asyncio.create_task(clients.run(over))
    until_s = time.monotonic() + seconds
    while time.monotonic() < until_s and not task.done():
        await asyncio.wait({task}, timeout=min(SAMPLE_S, max(0.0, until_s - time.monotonic())))
        if each is not None:
            await each()
    over.set()
    await task


async def soak(fleet: Fleet, *, minutes: float, sessions: int, restart_s: float, seed: int) -> dict[str, Any]:
    """The whole course; the document for JSON."""
    await load(Clients(fleet.pipeline, sessions, seed + 1), min(WARM_UP_S, minutes * 6))
    before, _ = await at_rest(fleet)
    clients = Clients(fleet.pipeline, sessions, seed)
    series: list[tuple[float, Samples]] = []
    began_s = time.monotonic()
    with Progress(console=Console(stderr=True)) as progress:
        bar = progress.add_task("soaking", total=minutes * 60)

        async def each() -> None:
            at_s = time.monotonic() - began_s
            series.append((round(at_s, 1), await asyncio.to_thread(fleet.sample)))
            done = sum(clients.outcomes.values())
            text = f"soaking: {done} requests, {len(clients.wrong)} wrong, {clients.outcomes['error']} failed"
            progress.update(bar, completed=at_s, description=text)

        async with disturbed(fleet, restart_s):
            await load(clients, minutes * 60, each)
    took_s = time.monotonic() - began_s
    after, quiet_s = await at_rest(fleet)
    return {
        "took_s": round(took_s, 1),
        "requests": dict(clients.outcomes),
        "errors": dict(clients.errors),
        "wrong": clients.wrong[:10],
        "num_wrong": len(clients.wrong),
        "tokens": clients.tokens,
        "tokens_per_s": round(clients.tokens / took_s, 1),
        "messages": await asyncio.to_thread(fleet.faults),
        "ended": dict(fleet.ended),
        "quiet_after_s": round(quiet_s, 1),
        "before": _documents(before),
        "after": _documents(after),
        "series": [(at_s, _documents(samples)) for at_s, samples in _thinned(series)],
        "verdicts": verdicts(clients, before, after),
    }


def verdicts(clients: Clients, before: Samples, after: Samples) -> dict[str, bool]:
    """What must hold at the end."""
    names = before.keys() & after.keys()
    return {
        "every output is the target's": clients.outcomes["complete"] > 0 and not clients.wrong,
        "no request failed": not clients.outcomes["error"],
        "every process is there": before.keys() == after.keys(),
        "no session is left": all(not sample.sessions for sample in after.values()),
        "file descriptors are back": all(after[n].fds <= before[n].fds + MORE_FDS for n in names),
        "memory is back": all(after[n].rss_mib <= before[n].rss_mib + MORE_MIB for n in names),
    }


def _thinned(series: list[Any]) -> list[Any]:
    return series[:: max(1, -(-len(series) // _KEPT_SAMPLES))]


def _documents(samples: Samples) -> dict[str, Any]:
    return {name: asdict(sample) for name, sample in sorted(samples.items())}


def show(document: dict[str, Any]) -> None:
    """The processes before and after, and the verdicts."""
    table = Table(
        title=f"{document['took_s'] / 60:.0f} minutes of faults, at rest before and after",
        title_justify="left",
    )
    for name in ("process", "memory, MiB", "file descriptors", "sessions"):
        table.add_column(name, justify="left" if name == "process" else "right")
    for name in document["before"]:
        pairs = [document[when].get(name, {}) for when in ("before", "after")]
        cells = [" -> ".join(str(one.get(key)) for one in pairs) for key in ("rss_mib", "fds", "sessions")]
        table.add_row(name, *cells)
    console.print(table)
    for key in ("requests", "errors", "messages", "ended", "tokens_per_s"):
        console.print(f"{key}: {document[key]}", highlight=False)
    for name, holds in document["verdicts"].items():
        console.print(f"{'ok  ' if holds else 'FAIL'} {name}", highlight=False)


@click.command(context_settings={"show_default": True})
@click.option("--minutes", default=30.0, type=click.FloatRange(0.2), help="Of load.")
@click.option("--sessions", default=64, type=click.IntRange(1, 1000), help="At once.")
@click.option("--faults", default=0.01, type=click.FloatRange(0, 1), help="Share of messages that are hit.")
@click.option(
    "--restart-s", default=20.0, type=click.FloatRange(1), help="Between two ends of stage replicas."
)
@click.option("--seed", default=1, type=int, help="Of requests, faults and ends.")
def main(*, minutes: float, sessions: int, faults: float, restart_s: float, seed: int) -> None:
    """Soaks a pipeline; fails when an output is wrong or something stays behind."""
    with running(sessions, faults=faults, seed=seed, console=Console(stderr=True)) as fleet:
        found = asyncio.run(soak(fleet, minutes=minutes, sessions=sessions, restart_s=restart_s, seed=seed))
    options = {
        "minutes": minutes,
        "sessions": sessions,
        "faults": faults,
        "restart_s": restart_s,
        "seed": seed,
    }
    document = {"machine": describe(cpu_name()), "options": options, **found}
    show(document)
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    raise SystemExit(0 if all(document["verdicts"].values()) else 1)


if __name__ == "__main__":
    main()
