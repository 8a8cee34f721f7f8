"""Keys of a ZeroMQ client."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Self


@dataclass(frozen=True, slots=True)
class Curve:
    """CURVE keys in Z85, 40 characters each.

    Attributes:
        server: the gateway's public key; who does not hold its secret half is not talked to.
        public: of the client's own key, which the gateway has to have on its list.
        secret: of the client's own key.
    """

    server: str
    public: str
    secret: str = field(repr=False)

    @classmethod
    def from_folder(cls, folder: Path | str) -> Self:
        """Keys as ``pipespec keys`` made them: ``client.key_secret`` and ``server-0.key``.

        Raises:
            SettingsError: a file is missing, is no key, or can be read by others.
        """
        from pipespec.bus.keys import read_client_keys  # noqa: PLC0415 - zmq, where it is needed

        keys = read_client_keys(Path(folder), num_servers=1)
        return cls(keys.servers[0].decode(), keys.own.public.decode(), keys.own.secret.decode())
