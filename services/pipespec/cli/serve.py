"""``pipespec serve``: one service of a pipeline in this process, as it runs in a container or under ``pipespec up``."""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import update_wrapper
from pathlib import Path
from typing import Any

import click
import structlog

from pipespec.ops.errors import PipespecError, SettingsError
from pipespec.ops.lifecycle import end_with_parent
from pipespec.ops.pipeline import Pipeline, load_pipeline
from pipespec.protocol.ids import is_replica_name


@click.group()
def serve() -> None:
    """Run one service of a pipeline until SIGTERM."""


def _service(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the options of every service; it gets the pipeline that they name."""

    def run(*, pipeline: Path, parent: int | None, **options: Any) -> None:
        if parent is not None:
            end_with_parent(parent)
        loaded = load_pipeline(pipeline)
        try:
            command(loaded, **options)
        except PipespecError:
            raise
        except Exception:  # noqa: BLE001 - logged in full; the process ends with it
            structlog.get_logger(__name__).exception("service.failed")
            sys.exit(1)

    path = click.Path(path_type=Path, dir_okay=False)
    with_parent = click.option("--parent", type=int, hidden=True, help="Process to end with.")
    return with_parent(
        click.option("--pipeline", type=path, required=True, help="Pipeline file.")(
            update_wrapper(run, command)
        )
    )


def _replica_name(_context: click.Context, _option: click.Parameter, name: str) -> str:
    if not is_replica_name(name):
        raise click.BadParameter(
            f"{name!r} is no replica name; expected a DNS label, as pod names are: a-z, 0-9 and dashes "
            "(not first or last), 63 characters at most"
        )
    return name


@serve.command()
@_service
@click.option("--index", type=click.IntRange(min=0), default=0, show_default=True, help="Which broker.")
def broker(pipeline: Pipeline, index: int) -> None:
    """Forward messages between all others."""
    from pipespec.broker import service  # noqa: PLC0415 - only the chosen service's libraries

    if index >= len(pipeline.brokers):
        raise SettingsError(f"--index {index}: the pipeline has {len(pipeline.brokers)} broker(s), from 0")
    service.run(pipeline, index)


@serve.command()
@_service
@click.option("--rank", type=click.IntRange(min=0), required=True, help="Place in the chain, from 0.")
@click.option(
    "--replica", default="r0", show_default=True, callback=_replica_name, help="Name, unique in its stage."
)
@click.option("--metrics-port", type=click.IntRange(0, 65535), default=0, help="0 picks a free one.")
def stage(pipeline: Pipeline, rank: int, replica: str, metrics_port: int) -> None:
    """Run one stage of the chain: a model, or a draft without one."""
    from pipespec.stage import service  # noqa: PLC0415 - only the chosen service's libraries

    if rank >= len(pipeline.stages):
        raise SettingsError(f"--rank {rank}: the pipeline has {len(pipeline.stages)} stage(s), from 0")
    service.run(pipeline, rank, replica, metrics_port, command=_command_of_rank(rank, replica))


def _command_of_rank(rank: int, replica: str) -> tuple[str, ...]:
    """What starts another process of this stage; its place among them goes in the environment."""
    file = click.get_current_context().params["pipeline"]
    here = ("--pipeline", str(file), "--rank", str(rank), "--replica", replica)
    return (sys.executable, "-m", "pipespec.cli", "serve", "stage", *here)


@serve.command()
@_service
@click.option(
    "--replica", default="g0", show_default=True, callback=_replica_name, help="Name, unique among gateways."
)
def gateway(pipeline: Pipeline, replica: str) -> None:
    """Serve clients: HTTP, gRPC and ZeroMQ."""
    from pipespec.gateway import service  # noqa: PLC0415 - only the chosen service's libraries

    service.run(pipeline, replica)


@serve.command()
@_service
@click.option(
    "--replica",
    default="a0",
    show_default=True,
    callback=_replica_name,
    help="Name, unique among autoscalers.",
)
def autoscaler(pipeline: Pipeline, replica: str) -> None:
    """Choose the replicas of the stages in a cluster, all stages together."""
    from pipespec.autoscaler import service  # noqa: PLC0415 - only the chosen service's libraries

    service.run(pipeline, replica)
