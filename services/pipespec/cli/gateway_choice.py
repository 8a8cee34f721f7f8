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
from pipespec.client import Client, Curve


def credential_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options that a gateway with keys or a certificate asks for."""
    options = (
        click.option(
            "--api-key",
            envvar="PIPESPEC_API_KEY",
            show_envvar=True,
            help="Key for the gateway. Others on this machine can read a command line; better use the variable.",
        ),
        click.option(
            "--ca",
            type=click.Path(path_type=Path, dir_okay=False),
            help="Over TLS: authorities (PEM) to trust instead of the well-known ones.",
        ),
    )
    for option in reversed(options):
        command = option(command)
    return command


def gateway_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options that choose a gateway."""
    options = (
        click.option("--url", help="Gateway: grpc://host:port, grpcs://host:port (TLS) or zmq://host:port."),
        click.option(
            "--zmq-keys",
            "curve",
            type=click.Path(path_type=Path),
            callback=lambda _context, _option, folder: None if folder is None else Curve.from_folder(folder),
            help="With a zmq:// address: this client's folder of keys, made by `pipespec keys`.",
        ),
        credential_options,
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
def chosen_client(
    *,
    url: str | None,
    curve: Curve | None,
    api_key: str | None,
    ca: Path | None,
    name: str | None,
    pipeline: Path | None,
) -> Iterator[Client]:
    """Yield a client of the gateway to use.

    Raises:
        UsageError: more than one way to choose one is given.
        NotRunning: ``name`` names no running pipeline, or there are several and none is named.
        SettingsError: ``url`` is none, or ``ca`` does not go with it.
    """
    with _chosen_gateway(url=url, name=name, pipeline=pipeline) as gateway:
        # The variable may be set for other gateways: over ZeroMQ no API key is sent.
        key = api_key if gateway.startswith("grpc") else None
        with Client(gateway, curve=curve, api_key=key, ca=ca) as client:
            yield client


@contextmanager
def _chosen_gateway(*, url: str | None, name: str | None, pipeline: Path | None) -> Iterator[str]:
    """Yield the URL of the gateway to use; a temporary one lives as long as the block."""
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
