"""``pipespec down``: ends a pipeline that ``pipespec up`` started, detached or in another terminal."""

from __future__ import annotations

import os
import signal
import time
from contextlib import suppress

import click

from pipespec.cli.local.layout import stop_grace_s
from pipespec.cli.local.run_folder import NotRunning, RunFolder, run_folder, running_folders

_MARGIN_S = 10.0
"""On top of the supervisor's own patience with its children."""
_POLL_S = 0.05


@click.command()
@click.argument("name", required=False)
def down(name: str | None) -> None:
    """Stop the pipeline NAME, or the only one that is running."""
    folder = _running(name)
    state = folder.state()
    if state is None:
        raise NotRunning(f"pipeline {folder.name!r} is only starting; try again in a moment")
    with suppress(ProcessLookupError):
        os.kill(state.pid, signal.SIGTERM)
    until_s = time.monotonic() + stop_grace_s(folder.layout().pipeline) + _MARGIN_S
    while folder.is_claimed():
        if time.monotonic() > until_s:  # its children end with it: the kernel sees to that
            with suppress(ProcessLookupError):
                os.kill(state.pid, signal.SIGKILL)
        time.sleep(_POLL_S)
    click.echo(f"pipeline {folder.name!r} is stopped")


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
