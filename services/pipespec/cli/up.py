"""``pipespec up``: a whole pipeline on this machine, from fetching its models to its orderly end."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import click

from pipespec.cli.local.detach import start_detached
from pipespec.cli.local.document import parse_change, read_pipeline
from pipespec.cli.local.endpoints import show_endpoints
from pipespec.cli.local.layout import Layout, lay_out, process_specs, stop_grace_s
from pipespec.cli.local.run_folder import RunFolder, run_folder
from pipespec.cli.progress import fetch_missing, stderr, waiting_line
from pipespec.cli.supervisor.restarts import RestartPolicy
from pipespec.cli.supervisor.supervisor import Supervisor
from pipespec.cli.supervisor.thread import supervised

_A_WHILE_S = 3600.0

_port = click.IntRange(0, 65535)


@click.command()
@click.argument("file", required=False, type=click.Path(path_type=Path))
@click.option("--detach", is_flag=True, help="Return when it is ready and leave it running.")
@click.option("--http-port", type=_port, help="Instead of gateway.http_port; 0 takes a free one.")
@click.option("--grpc-port", type=_port, help="Instead of gateway.grpc_port.")
@click.option("--zmq-port", type=_port, help="Instead of gateway.zmq_port.")
@click.option("--set", "changes", multiple=True, metavar="KEY=VALUE", help="Change one setting of the file.")
@click.option(
    "--timeout",
    default=600,
    type=click.IntRange(1, 86_400),
    show_default=True,
    help="Seconds until all must be ready.",
)
def up(
    file: Path | None, *, detach: bool, changes: tuple[str, ...], timeout: int, **ports: int | None
) -> None:
    """Run the pipeline in FILE on this machine, or a small default one.

    The default is suffix drafts and SmolLM2-135M-Instruct; nothing but the package index is needed for it.
    """
    options: list[tuple[str, Any]] = [parse_change(change) for change in changes]
    options += [(f"gateway.{name}", port) for name, port in ports.items() if port is not None]
    pipeline = read_pipeline(file, changes=options)
    folder = run_folder(pipeline.name)
    with folder.claimed() as lock:
        fetch_missing(pipeline.stages)
        layout = lay_out(pipeline)
        folder.clear()
        folder.write(layout, ready=False)
        if detach:
            with waiting_line(f"starting pipeline {pipeline.name}"):
                start_detached(folder, lock=lock, timeout_s=timeout)
            show_endpoints(layout, folder.logs, stop=f"pipespec down {pipeline.name}")
        else:
            _run(
                folder,
                layout,
                timeout_s=timeout,
                on_ready=lambda: show_endpoints(layout, folder.logs, stop="Ctrl-C"),
            )


@click.command(hidden=True)
@click.argument("path", type=click.Path(path_type=Path))
@click.option("--lock", type=int, required=True, help="File descriptor that holds the run folder's lock.")
@click.option("--timeout", type=int, required=True, help="Seconds until all must be ready.")
def supervise(path: Path, lock: int, timeout: int) -> None:
    """Run what `pipespec up --detach` has prepared."""
    del lock  # held by being open
    folder = RunFolder(path)
    layout = folder.layout()
    # From now on `pipespec down` finds this process, not the one that started it.
    folder.write(layout, ready=False)
    _run(folder, layout, timeout_s=timeout, on_ready=lambda: None)


def _run(folder: RunFolder, layout: Layout, *, timeout_s: float, on_ready: Callable[[], None]) -> None:
    """Supervise until Ctrl-C or SIGTERM, the normal end of a pipeline that has become ready."""
    specs = process_specs(layout, file=folder.pipeline_file, logs=folder.logs)
    supervisor = Supervisor(
        specs,
        policy=RestartPolicy(max_start_s=timeout_s),
        on_note=lambda note: stderr.print(note, markup=False, soft_wrap=True),
    )
    with supervised(supervisor, grace_s=stop_grace_s(layout.pipeline)) as thread:
        with waiting_line(f"starting pipeline {folder.name}") as on_waiting:
            thread.wait_until_ready(timeout_s, on_waiting=on_waiting)
        folder.write(layout, ready=True)
        on_ready()
        with suppress(KeyboardInterrupt):
            while True:
                thread.wait(_A_WHILE_S)
        stderr.print(f"stopping pipeline {folder.name}")
