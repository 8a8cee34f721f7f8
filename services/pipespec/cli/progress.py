"""What a person sees while waiting: a bar for models, a line for processes. All of it on stderr."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn

from pipespec.ops.errors import ModelError
from pipespec.ops.pipeline import StageSettings

stderr = Console(stderr=True, highlight=False)


def fetch_missing(stages: Iterable[StageSettings]) -> None:
    """Fetch and convert the models that are not on this machine, with a progress bar.

    Raises:
        ModelError: one cannot be had.
    """
    from pipespec.models.fetch import fetch, resolve  # noqa: PLC0415 - imports the hub's library

    for model, revision in {(stage.model, stage.revision) for stage in stages}:
        if model is None:
            continue
        try:
            resolve(model, revision)
        except ModelError:
            with progress_bar() as on_progress:
                fetch(model, revision, on_progress=on_progress)


@contextmanager
def progress_bar() -> Iterator[Callable[[str, float], None]]:
    """Show a bar while the block runs; yields what is told the step and its fraction, 0 to 1."""
    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeElapsedColumn())
    with Progress(*columns, console=stderr) as progress:
        task = progress.add_task("", total=1.0, visible=False)  # until there is something to do
        yield lambda step, fraction: progress.update(task, description=step, completed=fraction, visible=True)


@contextmanager
def waiting_line(what: str) -> Iterator[Callable[[list[str]], None]]:
    """Show ``what`` and whom it waits for while the block runs; yields what is told their names."""
    with stderr.status(what) as status:

        def on_waiting(names: list[str]) -> None:
            status.update(f"{what} ({', '.join(names)})" if names else what)

        yield on_waiting
