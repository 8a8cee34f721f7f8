"""``pipespec down``: ends a pipeline that ``pipespec up`` started, detached or in another terminal."""

from __future__ import annotations

import os
import signal
import time
from contextlib import suppress

import click

from pipespec.cli.local.layout import stop_grace_s
from pipespec.cli.local.run_folder import NotRunning, RunFolder, run_folder, running_folders
from pipespec.ops.errors import PipespecError

MARGIN_S = 10.0
"""On top of the supervisor's own patience with its children."""
_POLL_S = 0.05


class NotStopped(PipespecError):
    """The pipeline does not end, even by force."""


@click.command()
@click.argument("name", required=False)
def down(name: str | None) -> None:
    """Stop the pipeline NAME, or the only one that is running."""
    folder = _running(name)
    if folder.state() is None:
        raise NotRunning(f"pipeline {folder.name!r} is only starting; try again in a moment")
    stop(folder, patience_s=stop_grace_s(folder.layout().pipeline) + MARGIN_S, margin_s=MARGIN_S)
    click.echo(f"pipeline {folder.name!r} is stopped")


def stop(folder: RunFolder, *, patience_s: float, margin_s: float) -> None:
    """End the supervisor of ``folder``, if need be by force; return when it is gone.

    Its children end with it even then: the kernel sees to that.

    Args:
        folder: claimed by the supervisor.
        patience_s: until it is killed.
        margin_s: until this gives up then.

    Raises:
        NotStopped: it could not be ended; nobody else was signalled instead.
    """
    for number, within_s in ((signal.SIGTERM, patience_s), (signal.SIGKILL, margin_s)):
        if _ends(folder, number, within_s=within_s):
            return
    state = folder.state()
    raise NotStopped(
        f"pipeline {folder.name!r} does not end: another process holds {folder.lock_file}, "
        f"and its state names process {state.pid if state else 'none'}, which "
        f"{'runs on' if state and state.is_current else 'has ended'}; "
        f"find the holder with `fuser {folder.lock_file}` and end it"
    )


def _ends(folder: RunFolder, number: signal.Signals, *, within_s: float) -> bool:
    """Signal the supervisor once, a successor too; whether the lock is free in time."""
    until_s = time.monotonic() + within_s
    told: tuple[int, str | None] | None = None
    while folder.is_claimed():
        if time.monotonic() > until_s:
            return False
        state = folder.state()
        if state is not None and state.is_current and (state.pid, state.born) != told:
            told = (state.pid, state.born)
            with suppress(ProcessLookupError):
                os.kill(state.pid, number)
        time.sleep(_POLL_S)
    return True


def _running(name: str | None) -> RunFolder:
    if name is not None:
        folder = run_folder(name)
        if not folder.is_claimed():
            raise NotRunning(f"no pipeline {name!r} is running")
        return folder
    folders = running_folders()
    if not folders:
        raise NotRunning("no pipeline is running")
    if len(folders) > 1:
        names = ", ".join(folder.name for folder in folders)
        raise NotRunning(f"several pipelines are running ({names}); say which: pipespec down NAME")
    return folders[0]
