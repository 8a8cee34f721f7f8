"""The folder that ``pipespec keys`` keeps: everything of one bus, or of one ZeroMQ edge, from which the parts are handed out.

``server/`` is what servers read, ``clients/<name>/`` what the processes with that key read (``bus/keys.py``). A name may be on the
allow-list with several generations of its key, while the newest is handed out: that is how keys are replaced without a gap.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from pipespec.bus.keys import (
    CLIENT_SECRET,
    AllowList,
    KeyPair,
    Peer,
    peer_of,
    read_allow_list,
    read_public,
    read_secret,
    server_public_file,
    server_secret_file,
    write_key,
)
from pipespec.ops.bus_security import MAX_BROKERS
from pipespec.ops.errors import SettingsError


class KeyFolder:
    """One such folder; nothing is created before ``create``."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.server = path / "server"

    def client(self, name: str) -> Path:
        """What the processes with this key read."""
        return self.path / "clients" / name

    def create(self, name: str, *, num_servers: int) -> Peer:
        """Make a folder with keys for ``num_servers`` servers and one client.

        Raises:
            SettingsError: there is one already, or the name cannot be one.
        """
        _check_name(name)
        if self.path.exists() and any(self.path.iterdir()):
            raise SettingsError(
                f"{self.path} is not empty; choose another folder, or `pipespec keys add` to it"
            )
        for folder in (self.path, self.server, self.client("")):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        for index in range(num_servers):
            write_key(self.server / server_secret_file(index), KeyPair.new(), secret=True)
        return self.add(name)

    def add(self, name: str) -> Peer:
        """Give a name its first key or its next: both are listed from now on, the new one is handed out.

        Raises:
            SettingsError: the folder cannot be used, or the name cannot be one.
        """
        _check_name(name)
        newest = max((peer.generation for peer in self.peers() if peer.name == name), default=0)
        peer, pair = Peer(name, newest + 1), KeyPair.new()
        folder = self.client(name)
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_key(self.server / peer.file, pair, secret=False)
        write_key(folder / CLIENT_SECRET, pair, secret=True)
        for index in self._servers():
            own = read_secret(self.server / server_secret_file(index))
            write_key(folder / server_public_file(index), own, secret=False)
        return peer

    def replace_server(self, index: int) -> None:
        """Give server ``index`` a new key and tell all clients; the server and then the clients have to restart.

        Raises:
            SettingsError: there is no such server.
        """
        if index not in self._servers():
            raise SettingsError(f"{self.server} has no key of server {index}; it has {self._servers()}")
        pair = KeyPair.new()
        write_key(self.server / server_secret_file(index), pair, secret=True)
        for folder in self._clients():
            write_key(folder / server_public_file(index), pair, secret=False)

    def retire(self, name: str, *, everything: bool = False) -> list[Peer]:
        """Strike a name's older keys off the list, or all of its keys; those that went.

        Raises:
            SettingsError: the name is not on the list, or has nothing to retire.
        """
        listed = sorted(peer for peer in self.peers() if peer.name == name)
        gone = listed if everything else listed[:-1]
        if not gone:
            state = "has one key only; `--all` strikes that off too" if listed else "is not on the list"
            raise SettingsError(f"{name!r} {state}: {', '.join(sorted({p.name for p in self.peers()}))}")
        for peer in gone:
            (self.server / peer.file).unlink()
        return gone

    def allowed(self) -> AllowList:
        """The allow-list."""
        return read_allow_list(self.server)

    def peers(self) -> list[Peer]:
        """Who is listed, by name and generation.

        Raises:
            SettingsError: the list cannot be read.
        """
        return sorted(self.allowed().values())

    def problems(self) -> Iterator[str]:
        """What would keep servers or clients from working."""
        try:
            allowed = self.allowed()
            servers = {n: read_secret(self.server / server_secret_file(n)).public for n in self._servers()}
        except SettingsError as error:
            yield str(error)
            return
        if not servers:
            yield f"{self.server} has no {server_secret_file(0)}"
        if not allowed:
            yield f"{self.server} lists nobody: nobody can connect"
        for folder in self._clients():
            yield from self._client_problems(folder, allowed, servers)

    def _client_problems(self, folder: Path, allowed: AllowList, servers: dict[int, bytes]) -> Iterator[str]:
        try:
            peer = allowed.get(read_secret(folder / CLIENT_SECRET).public)
            known = {index: read_public(folder / server_public_file(index)) for index in servers}
        except SettingsError as error:
            yield str(error)
            return
        if peer is None or peer.name != folder.name:
            yield f"{folder}: its key is not listed as {folder.name}; it cannot connect"
        for index, public in servers.items():
            if known[index] != public:
                yield f"{folder / server_public_file(index)} is not the key of server {index}"

    def _servers(self) -> list[int]:
        return [n for n in range(MAX_BROKERS) if (self.server / server_secret_file(n)).exists()]

    def _clients(self) -> list[Path]:
        folder = self.client("")
        return sorted(path for path in folder.iterdir() if path.is_dir()) if folder.is_dir() else []


def _check_name(name: str) -> None:
    if peer_of(Peer(name, 1).file) is None or name == "server":
        raise SettingsError(
            f"{name!r} cannot name a key; expected a-z, 0-9 and dashes (not first or last), 63 characters at most, and "
            "not 'server'"
        )
