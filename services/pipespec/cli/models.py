"""``pipespec models``: which models are on this machine, and getting more."""

from __future__ import annotations

import click


@click.group()
def models() -> None:
    """List and fetch models."""


@models.command()
@click.argument("reference")
@click.option("--revision", help="Commit, tag or branch of a hub model.")
def fetch(reference: str, revision: str | None) -> None:
    """Make REFERENCE ready: a hub id, a .gguf file or embedded:smollm2-135m-instruct."""
    from pipespec.cli.progress import progress_bar  # noqa: PLC0415 - `--help` does without
    from pipespec.models import fetch as source  # noqa: PLC0415 - `--help` does without

    with progress_bar() as on_progress:
        folder = source.fetch(reference, revision, on_progress=on_progress)
    click.echo(folder)


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
