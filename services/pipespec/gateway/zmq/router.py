"""The ROUTER socket: bounded, never blocking, and honest about clients that are gone.

With keys it is a CURVE server: only listed clients get in, and every message says whose key it came with.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from pathlib import Path

import zmq
import zmq.asyncio

from pipespec.bus.guard import Guard, ServerKeys
from pipespec.gateway.zmq.messages import MAX_MESSAGE
from pipespec.ops.errors import PipespecError, SettingsError

STALLED_CLIENT_S = 30.0
"""A client that reads nothing for this long is given up."""
_RETRY_S = 0.01
_SEND_QUEUE = 500
"""Messages that wait for a client."""
_RECEIVE_QUEUE = 16
"""Messages of a client that wait for us, of 2 MiB at most; libzmq holds them before anything can count them. One that
sends faster waits in its own queue."""
_SEND_BUFFER = 64 * 1024
"""Bytes per client that the kernel holds; it would grow it to megabytes for one that reads slowly."""
_LINGER_MS = 1000


class ClientGone(PipespecError):
    """The client cannot be reached, or has stopped reading."""


@dataclass(frozen=True, slots=True)
class Received:
    """A message.

    Attributes:
        identity: of the connection.
        client: name of the key that the connection was made with; None in plain.
        frames: what was sent.
    """

    identity: bytes
    client: str | None
    frames: list[bytes]


class Router:
    """A bound socket.

    Args:
        host: address to bind.
        port: 0 picks a free one.
        keys: folder with its own key and those of its clients; None speaks in plain, with anybody.

    Attributes:
        port: the bound one.
        guard: who lets clients in; None in plain.

    Raises:
        SettingsError: the address cannot be bound, or the keys cannot be used.
    """

    def __init__(self, host: str, port: int, *, keys: Path | None = None) -> None:
        own = None if keys is None else ServerKeys.read(keys)
        self._context = zmq.asyncio.Context()
        self.guard = None if own is None else Guard(zmq.Context.shadow(self._context), own, domain="edge")
        self._socket = self._context.socket(zmq.ROUTER)
        options = {
            zmq.ROUTER_MANDATORY: 1,
            zmq.LINGER: 0,
            zmq.SNDHWM: _SEND_QUEUE,
            zmq.RCVHWM: _RECEIVE_QUEUE,
            zmq.SNDBUF: _SEND_BUFFER,
            zmq.MAXMSGSIZE: MAX_MESSAGE,
            zmq.HEARTBEAT_IVL: 500,
            zmq.HEARTBEAT_TIMEOUT: 1500,
            zmq.HEARTBEAT_TTL: 1500,
            zmq.HANDSHAKE_IVL: 2000,
            zmq.IPV6: int(":" in host),
        }
        for option, value in options.items():
            self._socket.setsockopt(option, value)
        if self.guard is not None:
            self.guard.protect(self._socket)
        address = f"tcp://[{host}]" if ":" in host else f"tcp://{host}"
        try:
            self._socket.bind(f"{address}:{port or '*'}")
        except zmq.ZMQError as error:
            if self.guard is not None:
                self.guard.close()
            self._context.destroy(linger=0)
            raise SettingsError(f"cannot serve ZeroMQ at {address}:{port}: {error}") from error
        if self.guard is not None:
            self.guard.start()
        self.port = int(self._socket.getsockopt_string(zmq.LAST_ENDPOINT).rpartition(":")[2])

    async def receive(self) -> Received:
        """Next message."""
        identity, *frames = await self._socket.recv_multipart(copy=False)
        client = None if self.guard is None else str(frames[0].get("User-Id"))
        return Received(identity.bytes, client, [frame.bytes for frame in frames])

    async def send(self, identity: bytes, frame: bytes) -> None:
        """Send one message; waits while the client's queue is full.

        Raises:
            ClientGone: it is not connected, or its queue stays full.
        """
        give_up_at = asyncio.get_running_loop().time() + STALLED_CLIENT_S
        while not await self.try_send(identity, frame):
            if asyncio.get_running_loop().time() > give_up_at:
                raise ClientGone(f"client {identity.hex()} has read nothing for {STALLED_CLIENT_S:g} s")
            # A blocking send would hold up every other client behind this one.
            await asyncio.sleep(_RETRY_S)

    async def try_send(self, identity: bytes, frame: bytes) -> bool:
        """Send one message if the client's queue has room; tell whether it had.

        Raises:
            ClientGone: it is not connected.
        """
        try:
            await self._socket.send_multipart([identity, frame], flags=zmq.DONTWAIT)
        except zmq.Again:
            return False
        except zmq.ZMQError as error:
            if error.errno != zmq.EHOSTUNREACH:
                raise
            raise ClientGone(f"client {identity.hex()} is not connected") from error
        return True

    async def close(self) -> None:
        """Send what is queued, for a second at most, and close."""
        self._socket.close(linger=_LINGER_MS)
        if self.guard is not None:
            await asyncio.to_thread(self.guard.close)
        await asyncio.to_thread(self._context.term)
