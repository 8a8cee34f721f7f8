"""``pipespec api-keys``: makes keys for HTTP and gRPC clients, and shows who has some.

A key is shown once, when it is made; the file keeps its digest. To replace a key: make another one under the same name,
give it to the client, and remove the old one from the file. Gateways that run take the changed file over.
"""

from __future__ import annotations

from pathlib import Path

import click

from pipespec.cli.progress import stderr

_FILE = click.argument("file", type=click.Path(path_type=Path, dir_okay=False))


@click.group("api-keys")
def api_keys() -> None:
    """Make and show keys for HTTP and gRPC clients (gateway.api_keys in the pipeline file)."""


@api_keys.command()
@_FILE
@click.argument("name")
@click.option(
    "--model", "models", multiple=True, help="That it may use; may be given several times.  [default: all]"
)
@click.option("--max-requests", type=int, help="That may run at once.  [default: what there is room for]")
@click.option("--days", type=click.IntRange(min=1), help="Until the key expires.  [default: never]")
def new(
    file: Path, name: str, *, models: tuple[str, ...], max_requests: int | None, days: int | None
) -> None:
    """Make a key for NAME, add its digest to FILE, and print it: it is not shown again.

    A NAME that FILE has gets one more key; what it may do stays unless an option says otherwise. FILE is written anew:
    comments in it are lost.
    """
    from pipespec.cli.api_key_file import add_key  # noqa: PLC0415 - `--help` does without

    click.echo(add_key(file, name, models=models, max_requests=max_requests, days=days))
    stderr.print(
        f"added to {file} for {name}; give it to the client, it is not shown again",
        markup=False,
        soft_wrap=True,
    )


@api_keys.command("list")
@_FILE
def list_(file: Path) -> None:
    """Show who has keys in FILE, and what they may do. Keys are named by the first digits of their digests."""
    from pipespec.cli.api_key_file import show_keys  # noqa: PLC0415 - as above

    show_keys(file)
