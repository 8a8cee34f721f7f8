"""The gateway's certificate for HTTP and gRPC.

New connections get what was loaded last; a pair that does not fit is refused as a whole, so that no connection ever sees
half of a change. TLS 1.2 is the least.
"""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from pipespec.ops.errors import SettingsError
from pipespec.ops.secret_files import refuse_readable_by_others


@dataclass(frozen=True, slots=True)
class PemPair:
    """Certificate chain and private key, as they are in the files."""

    chain: bytes
    key: bytes


class Certificate:
    """A pair of files, loaded.

    Args:
        chain: path of the certificate chain.
        key: path of its private key.

    Attributes:
        pair: what new connections get; replaced as a whole, so any thread may read it.

    Raises:
        SettingsError: the files cannot be read, do not belong together, or others can read the key.
    """

    def __init__(self, chain: Path, key: Path) -> None:
        self._chain = chain
        self._key = key
        self._context = _server_context()
        self.pair = self._read()
        self.load()

    @property
    def ssl_context(self) -> ssl.SSLContext:
        """For servers of this process; always the same one, with what was loaded last."""
        return self._context

    def load(self) -> None:
        """Read the files again.

        Raises:
            SettingsError: as when it was made; what was loaded before stays.
        """
        pair = self._read()
        self._load_into(_server_context())  # a context that refuses a pair is left with half of it
        if pair != self._read():
            raise SettingsError(f"{self._chain} or {self._key} changed while they were read")
        self._load_into(self._context)
        self.pair = pair

    def _load_into(self, context: ssl.SSLContext) -> None:
        try:
            context.load_cert_chain(self._chain, self._key, password=_no_password)
        except (OSError, ValueError) as error:  # SSLError is an OSError
            raise SettingsError(
                f"the certificate {self._chain} and the key {self._key} cannot be used: {error}"
            ) from error

    def _read(self) -> PemPair:
        try:
            pair = PemPair(self._chain.read_bytes(), self._key.read_bytes())
            refuse_readable_by_others(self._key)
        except OSError as error:
            raise SettingsError(f"cannot read {error.filename}: {error.strerror}") from error
        return pair


def _server_context() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_RENEGOTIATION
    context.set_alpn_protocols(["http/1.1"])
    return context


def _no_password() -> NoReturn:
    raise ValueError("it is encrypted, and nobody is there to type a password")
