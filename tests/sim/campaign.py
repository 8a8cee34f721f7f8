"""A campaign: many seeds of all modes on all cores. Stops cleanly on Ctrl-C and goes on where it stopped."""

from __future__ import annotations

import multiprocessing
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass
from multiprocessing.pool import Pool
from pathlib import Path

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from sim.clients import Violation
from sim.ledger import Ledger, Share
from sim.modes import case_of
from sim.scenario import repeat, run_case

PARTS = {"safety": 4, "core": 3, "fork": 2, "single": 1}
"""How many of ten seeds each mode gets."""
CHUNK = 20
_SAVE_S = 5.0
_TELL_S = 60.0
"""Between lines of progress where there is no terminal to draw a bar on."""
_SHOWN = 5

Chunk = tuple[str, int]


@dataclass(frozen=True)
class Goal:
    """What is to be done.

    Attributes:
        seeds: in all modes together.
        first: seed of every mode.
    """

    seeds: int
    modes: tuple[str, ...]
    first: int
    jobs: int

    def chunks(self) -> Iterator[Chunk]:
        """All of it, the modes side by side, so that a campaign that is stopped has tried them all."""
        parts = sum(PARTS[mode] for mode in self.modes)
        ends = {mode: self.first + round(self.seeds * PARTS[mode] / parts) for mode in self.modes}
        order = [
            ((index + 1) / PARTS[mode], mode, first)
            for mode in self.modes
            for index, first in enumerate(range(self.first, ends[mode], CHUNK))
        ]
        for _, mode, first in sorted(order):
            yield mode, first


def run_chunk(chunk: Chunk) -> tuple[Chunk, Share]:
    """Run its seeds; a violation is noted and the next seed runs."""
    mode, first = chunk
    share = Share()
    for seed in range(first, first + CHUNK):
        began_s = time.process_time()
        case = case_of(mode, seed)
        try:
            verdict = run_case(case)
        except Violation as violation:
            share.violations.append(
                {"mode": mode, "seed": seed, "what": str(violation).splitlines()[0], "repeat": repeat(case)}
            )
            share.seeds += 1
            continue
        took_s = time.process_time() - began_s
        part = Share(
            1, verdict.sessions, verdict.tokens, verdict.messages, took_s, took_s, dict(verdict.faults)
        )
        if case.fault:
            part.note_pauses(case.fault, verdict.pauses_s)
        share.add(part)
    return chunk, share


def run(goal: Goal, ledger: Ledger, file: Path, console: Console) -> bool:
    """Run what the ledger does not have; True when all of it is done, False when it was stopped."""
    chunks = list(goal.chunks())
    todo = [chunk for chunk in chunks if not ledger.is_done(*chunk)]
    began_s = saved_s = told_s = time.perf_counter()
    before_s = ledger.seconds
    context = multiprocessing.get_context("spawn")
    with _progress(console) as progress, context.Pool(goal.jobs, _ignore_interrupts) as pool:
        task = progress.add_task(
            "seeds", total=CHUNK * len(chunks), completed=CHUNK * (len(chunks) - len(todo)), rate="-", wrong=0
        )
        try:
            for (mode, first), share in pool.imap_unordered(run_chunk, todo):
                ledger.add(mode, first, share)
                now_s = time.perf_counter()
                ledger.seconds = before_s + now_s - began_s
                _show(share, console)
                rate = progress.tasks[task].speed or 0.0
                wrong = sum(len(one.violations) for one in ledger.shares.values())
                progress.update(task, advance=CHUNK, rate=f"{rate:.0f}", wrong=wrong)
                if now_s - saved_s > _SAVE_S:
                    saved_s = now_s
                    ledger.save(file)
                if not console.is_terminal and now_s - told_s > _TELL_S:
                    told_s = now_s
                    done = progress.tasks[task].completed
                    console.print(
                        f"{done:.0f} of {progress.tasks[task].total} seeds, {rate:.1f}/s, violations {wrong}"
                    )
        except KeyboardInterrupt:
            _stop(pool)
            return False
        finally:
            ledger.save(file)
    return True


def _ignore_interrupts() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _stop(pool: Pool) -> None:
    pool.terminate()
    pool.join()


def _progress(console: Console) -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]} seeds/s"),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        TextColumn("violations {task.fields[wrong]}"),
        console=console,
    )


def _show(share: Share, console: Console) -> None:
    for violation in share.violations[:_SHOWN]:
        console.print(
            f"[red]{violation['mode']} {violation['seed']}[/]: {violation['what']}\n  {violation['repeat']}"
        )
