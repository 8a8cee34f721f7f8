"""CURVE keys in folders: what a server reads, what a client reads.

A server's folder holds ``server-<n>.key_secret``, its own, one for each broker, and the allow-list: ``<name>.<generation>.key``,
the public key of one who may connect. A client's folder holds ``client.key_secret`` and ``server-<n>.key``. The files are
ZeroMQ certificates. Both folders are flat, so that a Kubernetes Secret mounted as a volume is such a folder. A secret key that
others on the machine can read is refused.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field
from pathlib import Path

import zmq
from zmq.auth import load_certificate
from zmq.utils import z85

from pipespec.ops.errors import SettingsError
from pipespec.ops.secret_files import refuse_readable_by_others

CLIENT_SECRET = "client.key_secret"  # noqa: S105 - a file's name
_ALLOWED = re.compile(r"(?P<name>[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?)\.(?P<generation>[1-9][0-9]{0,8})\.key")
_Z85_LEN = 40


@dataclass(frozen=True, slots=True)
class KeyPair:
    """A CURVE key, both halves in Z85."""

    public: bytes
    secret: bytes = field(repr=False)

    @classmethod
    def new(cls) -> KeyPair:
        """One that nobody has."""
        return cls(*zmq.curve_keypair())


@dataclass(frozen=True, slots=True)
class ClientKeys:
    """What a client needs.

    Attributes:
        own: its key.
        servers: public keys of the servers, in the order of the brokers.
    """

    own: KeyPair
    servers: tuple[bytes, ...]


@dataclass(frozen=True, slots=True, order=True)
class Peer:
    """Who may connect: several generations of keys may have one name while they are replaced."""

    name: str
    generation: int

    @property
    def file(self) -> str:
        """Where its public key is, in a server's folder."""
        return f"{self.name}.{self.generation}.key"


AllowList = dict[bytes, Peer]
"""By public key, in Z85."""


def server_secret_file(index: int) -> str:
    """Name of the file with the secret key of server ``index``."""
    return f"server-{index}.key_secret"


def server_public_file(index: int) -> str:
    """Name of the file with the public key of server ``index``, in a client's folder."""
    return f"server-{index}.key"


def read_client_keys(folder: Path, *, num_servers: int) -> ClientKeys:
    """What a client needs to connect to ``num_servers`` servers.

    Raises:
        SettingsError: a file is missing, is no key, or can be read by others.
    """
    own = read_secret(folder / CLIENT_SECRET)
    return ClientKeys(
        own, tuple(read_public(folder / server_public_file(index)) for index in range(num_servers))
    )


def read_secret(file: Path) -> KeyPair:
    """A key with both halves.

    Raises:
        SettingsError: it is missing, is no key, or can be read by others.
    """
    try:
        refuse_readable_by_others(file)
    except OSError as error:
        raise SettingsError(
            f"cannot read the key {file}: {error.strerror}; `pipespec keys` makes them"
        ) from error
    public, secret = _read(file)
    if secret is None:
        raise SettingsError(f"{file} holds no secret key; `pipespec keys check` looks at a whole folder")
    if zmq.curve_public(secret) != public:
        raise SettingsError(f"{file}: the public key does not belong to the secret key")
    return KeyPair(public, secret)


def read_public(file: Path) -> bytes:
    """A public key, in Z85.

    Raises:
        SettingsError: the file is missing or is no key.
    """
    return _read(file)[0]


def read_allow_list(folder: Path) -> AllowList:
    """Everyone who may connect to a server with this folder.

    Raises:
        SettingsError: the folder or a file in it cannot be read, or one key has two names.
    """
    allowed: AllowList = {}
    try:
        files = sorted(entry for entry in folder.iterdir() if entry.suffix == ".key")
    except OSError as error:
        raise SettingsError(f"cannot read the folder of keys {folder}: {error.strerror}") from error
    for file in files:
        public, peer = read_public(file), peer_of(file.name)
        if peer is None:
            raise SettingsError(f"{file}: expected a name such as fleet.1.key, name and generation")
        if public in allowed:
            raise SettingsError(f"{file} holds the same key as {allowed[public].file}")
        allowed[public] = peer
    return allowed


def peer_of(file_name: str) -> Peer | None:
    """Whose public key a file of an allow-list holds; None when the name is of another kind."""
    match = _ALLOWED.fullmatch(file_name)
    return Peer(match["name"], int(match["generation"])) if match else None


def write_key(file: Path, pair: KeyPair, *, secret: bool) -> None:
    """Write a certificate in one step; with its secret half only the owner can read it."""
    lines = [
        f"# ZeroMQ CURVE {'SECRET' if secret else 'public'} key, made by pipespec keys",
        "metadata",
        "curve",
    ]
    lines.append(f'    public-key = "{pair.public.decode()}"')
    if secret:
        lines.append(f'    secret-key = "{pair.secret.decode()}"')
    scratch = file.with_name(f".{file.name}.partial")
    scratch.unlink(missing_ok=True)
    mode = 0o600 if secret else 0o644
    descriptor = os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    with os.fdopen(descriptor, "w", encoding="ascii") as stream:
        stream.write("\n".join(lines) + "\n")
    scratch.replace(file)


def _read(file: Path) -> tuple[bytes, bytes | None]:
    try:
        public, secret = load_certificate(file)
    except OSError as error:
        raise SettingsError(
            f"cannot read the key {file}: {error.strerror or 'no such file'}; `pipespec keys` makes them"
        ) from error
    except ValueError as error:
        raise SettingsError(f"{file} is no CURVE key: {error}") from error
    for key in (public, secret):
        if key is not None and not _is_key(key):
            raise SettingsError(f"{file} is no CURVE key: expected {_Z85_LEN} characters of Z85")
    return public, secret


def _is_key(key: bytes) -> bool:
    try:
        return len(key) == _Z85_LEN and len(z85.decode(key)) == 32
    except (KeyError, ValueError):
        return False
