"""``pipespec keys``: the keys of the bus and of the ZeroMQ edge; every command says what to do next.

What is printed on stdout is for programs (a table, or manifests); advice goes to stderr. No secret key is ever printed, but in
the manifests that ``--kubernetes-secret`` asks for.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import yaml

from pipespec.cli.progress import stderr
from pipespec.ops.bus_security import MAX_BROKERS
from pipespec.ops.errors import PipespecError

if TYPE_CHECKING:
    from pipespec.bus.key_folder import KeyFolder

_FOLDER = click.argument("folder", type=click.Path(path_type=Path, file_okay=False))


class KeysUnfit(PipespecError):
    """A folder of keys has problems."""


@click.group()
def keys() -> None:
    """Make, list and replace the keys of the bus and of ZeroMQ clients."""


def _with_manifests(command: Callable[..., None]) -> Callable[..., None]:
    return click.option(
        "--kubernetes-secret",
        metavar="PREFIX",
        help="Print Secrets PREFIX-server and PREFIX-NAME for `kubectl apply`; secret keys are in them.",
    )(command)


@keys.command()
@_FOLDER
@click.option("--name", default="fleet", show_default=True, help="Of the first client key.")
@click.option(
    "--servers",
    type=click.IntRange(1, MAX_BROKERS),
    default=MAX_BROKERS,
    show_default=True,
    help="Brokers; 1 for a ZeroMQ edge.",
)
@_with_manifests
def new(folder: Path, *, name: str, servers: int, kubernetes_secret: str | None) -> None:
    """Make FOLDER with keys for servers and for the first client."""
    made = _opened(folder)
    made.create(name, num_servers=servers)
    where = folder.absolute()
    _advise(
        f"made {where}. In the pipeline file, for the bus:",
        f"  bus: {{server_keys: {where}/server, client_keys: {where}/clients/{name}}}",
        f"or for the ZeroMQ edge: gateway: {{zmq_keys: {where}/server}}; clients: --zmq-keys {where}/clients/{name}",
        "server/ is for brokers (or gateways) alone, clients/NAME for those who have that key.",
    )
    _print_manifests(made, kubernetes_secret)


@keys.command()
@_FOLDER
@click.argument("name", required=False)
@click.option("--server", type=click.IntRange(0, MAX_BROKERS - 1), help="Replace this server's key instead.")
@_with_manifests
def add(folder: Path, name: str | None, *, server: int | None, kubernetes_secret: str | None) -> None:
    """Give NAME its first key, or a next one beside those that it has."""
    if (name is None) == (server is None):
        raise click.UsageError("expected NAME or --server, one of them")
    made = _opened(folder)
    if name is None:
        made.replace_server(server or 0)
        _advise(
            f"server {server} has a new key. Next: restart broker {server}, then all others one by one.",
            "Others stay connected to the other brokers meanwhile; with one broker only, streams break.",
        )
    else:
        peer = made.add(name)
        _advise(
            f"{name} has generation {peer.generation}; earlier ones are good until they are retired.",
            "Next: hand out server/ first (servers read the list again within seconds), then clients/"
            f"{name}, restart those who use it one by one, then: pipespec keys retire {folder} {name}",
        )
    _print_manifests(made, kubernetes_secret)


@keys.command(name="list")
@_FOLDER
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@_with_manifests
def list_(folder: Path, *, as_json: bool, kubernetes_secret: str | None) -> None:
    """Show who may connect: names, generations, public keys."""
    made = _opened(folder)
    if kubernetes_secret is not None:
        _print_manifests(made, kubernetes_secret)
        return
    rows = sorted((peer.name, peer.generation, public.decode()) for public, peer in made.allowed().items())
    if as_json:
        click.echo(
            json.dumps([dict(zip(("name", "generation", "public"), row, strict=True)) for row in rows])
        )
        return
    for name, generation, public in rows:
        click.echo(f"{name:<20} {generation:>4}  {public}")


@keys.command()
@_FOLDER
@click.argument("name")
@click.option("--all", "everything", is_flag=True, help="The newest key too: the name may connect no more.")
@_with_manifests
def retire(folder: Path, name: str, *, everything: bool, kubernetes_secret: str | None) -> None:
    """Strike the older keys of NAME off the list."""
    made = _opened(folder)
    gone = made.retire(name, everything=everything)
    _advise(
        f"struck off: {', '.join(f'{peer.name}.{peer.generation}' for peer in gone)}",
        "Next: hand out server/; new connections with those keys are refused within seconds.",
        "Connections that are open stay: restart the brokers (or gateways) one by one, and they are gone.",
    )
    _print_manifests(made, kubernetes_secret)


@keys.command()
@_FOLDER
def check(folder: Path) -> None:
    """Look for what would keep servers or clients from working."""
    problems = list(_opened(folder).problems())
    for problem in problems:
        click.echo(problem)
    if problems:
        raise KeysUnfit(f"{folder}: {len(problems)} problem(s)")
    click.echo(f"{folder}: good")


def manifests(folder: KeyFolder, prefix: str) -> list[dict[str, Any]]:
    """The parts of the folder as Kubernetes Secrets."""
    parts = {"server": folder.server}
    parts |= {path.name: path for path in sorted(folder.client("").iterdir()) if path.is_dir()}
    return [
        {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": f"{prefix}-{part}"},
            "stringData": {
                file.name: file.read_text(encoding="ascii")
                for file in sorted(path.iterdir())
                if file.suffix in (".key", ".key_secret")
            },
        }
        for part, path in parts.items()
    ]


def _opened(folder: Path) -> KeyFolder:
    from pipespec.bus.key_folder import KeyFolder  # noqa: PLC0415 - zmq; `--help` does without

    return KeyFolder(folder)


def _print_manifests(folder: KeyFolder, prefix: str | None) -> None:
    if prefix is not None:
        click.echo(yaml.safe_dump_all(manifests(folder, prefix), sort_keys=False), nl=False)


def _advise(*lines: str) -> None:
    for line in lines:
        stderr.print(line, markup=False, highlight=False, soft_wrap=True)
