"""``pipespec models``: which models are on this machine, and getting more."""

from __future__ import annotations

import click

_LOOK_EVERY_S = 2.0


@click.group()
def models() -> None:
    """List and fetch models."""


@models.command()
@click.argument("reference")
@click.option("--revision", help="Commit, tag or branch of a hub model.")
@click.option("--text-only", is_flag=True, help="Of a hub model no weights: what a gateway needs.")
def fetch(reference: str, *, revision: str | None, text_only: bool) -> None:
    """Make REFERENCE ready: a hub id, a .gguf file or embedded:smollm2-135m-instruct."""
    from pipespec.cli.progress import progress_bar  # noqa: PLC0415 - `--help` does without
    from pipespec.models import fetch as source  # noqa: PLC0415 - `--help` does without
    from pipespec.models.folder import Part  # noqa: PLC0415 - `--help` does without

    part = Part.TEXT if text_only else Part.WHOLE
    with progress_bar() as on_progress:
        folder = source.fetch(reference, revision, part=part, on_progress=on_progress)
    click.echo(folder)


@models.command()
@click.argument("reference")
@click.option("--revision", help="Commit, tag or branch of a hub model.")
@click.option("--text-only", is_flag=True, help="Do not wait for weights.")
@click.option(
    "--timeout-s", type=click.FloatRange(0), default=3600.0, show_default=True, help="Give up then."
)
def wait(reference: str, *, revision: str | None, text_only: bool, timeout_s: float) -> None:
    """Wait until somebody else has made REFERENCE ready: a Job that fills a shared volume."""
    import time  # noqa: PLC0415 - `--help` does without

    from pipespec.models.fetch import resolve  # noqa: PLC0415 - `--help` does without
    from pipespec.models.folder import Part  # noqa: PLC0415 - `--help` does without
    from pipespec.ops.errors import ModelError  # noqa: PLC0415 - `--help` does without

    until_s = time.monotonic() + timeout_s
    while True:
        try:
            click.echo(resolve(reference, revision, part=Part.TEXT if text_only else Part.WHOLE))
        except ModelError:
            if time.monotonic() >= until_s:
                raise
            time.sleep(min(_LOOK_EVERY_S, max(0.0, until_s - time.monotonic())))
        else:
            return


@models.command(name="list")
def list_() -> None:
    """Show the models that are ready on this machine."""
    from rich.console import Console  # noqa: PLC0415 - `--help` does without
    from rich.filesize import decimal  # noqa: PLC0415 - `--help` does without
    from rich.table import Table  # noqa: PLC0415 - `--help` does without

    from pipespec.models.fetch import listed  # noqa: PLC0415 - `--help` does without

    table = Table("model", "size", box=None, pad_edge=False)
    table.add_column("folder", overflow="fold")
    for model in listed():
        table.add_row(model.reference, decimal(model.size), str(model.folder))
    Console(highlight=False).print(table)
