"""Keys of a ZeroMQ client, and what a handshake that came to nothing says about them."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

import zmq

from pipespec.bus.keys import read_client_keys

REFUSED = zmq.EVENT_HANDSHAKE_FAILED_AUTH | zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL
"""After these libzmq does not try again by itself."""
BROKEN_OFF = zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL


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
        keys = read_client_keys(Path(folder), num_servers=1)
        return cls(keys.servers[0].decode(), keys.own.public.decode(), keys.own.secret.decode())

    def options(self) -> dict[int, bytes]:
        """Of a socket, before it connects."""
        return {
            zmq.CURVE_SERVERKEY: self.server.encode(),
            zmq.CURVE_PUBLICKEY: self.public.encode(),
            zmq.CURVE_SECRETKEY: self.secret.encode(),
        }


def why_refused(event: int, curve: Curve | None) -> str:
    """What a failed handshake means, for people."""
    if event & zmq.EVENT_HANDSHAKE_FAILED_AUTH and curve is not None:
        return f"it refused the key {curve.public}"
    if curve is None:
        return "it asks for a key (CURVE), and this client has none"
    return "the handshake failed: it speaks without keys, or the server key is not its own"
