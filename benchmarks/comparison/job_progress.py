"""Two bars on stderr: all jobs, and the one that runs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from .course import Watch

REFRESH_PER_S = 2
"""Seldom: it draws while others are measured."""


@contextmanager
def watching(num_jobs: int) -> Iterator[Watch]:
    """Show the bars while the block runs; yields what shows one job."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    console = Console(stderr=True)
    with Progress(*columns, console=console, refresh_per_second=REFRESH_PER_S) as progress:
        all_jobs = progress.add_task("all jobs", total=num_jobs)

        @contextmanager
        def watch(title: str) -> Iterator[Callable[[float], None]]:
            task = progress.add_task(title, total=100)
            try:
                yield lambda fraction: progress.update(task, completed=int(100 * fraction))
            finally:
                progress.remove_task(task)
                progress.advance(all_jobs)

        yield watch
