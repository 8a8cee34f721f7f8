"""Which gateway a request goes to: the one that is named, the one that is running, or a temporary one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

from pipespec.cli.local.document import read_pipeline
from pipespec.cli.local.endpoints import grpc_url
from pipespec.cli.local.run_folder import serving_pipeline
from pipespec.cli.local.temporary import temporary_pipeline
from pipespec.cli.progress import stderr
from pipespec.client import Curve


def gateway_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options that choose a gateway."""
    options = (
        click.option("--url", help="Gateway: grpc://host:port or zmq://host:port."),
        click.option(
            "--zmq-keys",
            "curve",
            type=click.Path(path_type=Path),
            callback=lambda _context, _option, folder: None if folder is None else Curve.from_folder(folder),
            help="With a zmq:// address: this client's folder of keys, made by `pipespec keys`.",
        ),
        click.option("--name", help="Which running pipeline, if there are several."),
        click.option(
            "--pipeline",
            type=click.Path(path_type=Path),
            help="Run this pipeline file just for this command.",
        ),
    )
    for option in reversed(options):
        command = option(command)
    return command


@contextmanager
def chosen_gateway(*, url: str | None, name: str | None, pipeline: Path | None) -> Iterator[str]:
    """Yield the URL of the gateway to use; a temporary one lives as long as the block.

    Raises:
        UsageError: more than one way is given.
        NotRunning: ``name`` names no running pipeline, or there are several and none is named.
    """
    if sum(way is not None for way in (url, name, pipeline)) > 1:
        raise click.UsageError("--url, --name and --pipeline exclude each other")
    if url is not None:
        yield url
        return
    serving = serving_pipeline(name) if pipeline is None else None
    if serving is not None:
        yield grpc_url(serving)
        return
    if pipeline is None:
        stderr.print("no pipeline is running; starting a temporary one (`pipespec up` keeps one running)")
    with temporary_pipeline(read_pipeline(pipeline)) as resolved:
        yield grpc_url(resolved)
