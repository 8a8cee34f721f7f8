"""The seam below the clients: how a request travels. Chosen by the scheme of a URL."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Protocol
from urllib.parse import urlsplit

from pipespec.client.completion import Chunk, Finished, Started
from pipespec.client.curve import Curve
from pipespec.client.request import Request, Resumption
from pipespec.ops.errors import SettingsError


class Transport(Protocol):
    """One connection to a gateway, used from one event loop."""

    def events(self, request: Request | Resumption) -> AsyncGenerator[Started | Chunk | Finished]:
        """Chunks, then ``Finished``; ``Started`` first, when the stream can be resumed.

        Closing the iterator early cancels the request, also one that can be resumed; a lost connection does not.

        Raises:
            RequestError: the request failed; ``Overloaded``, ``Unavailable`` and ``SessionLost`` may be retried.
        """

    async def cancel(self, request_id: str) -> None:
        """End an active request; its iterator raises the error ``cancelled``.

        Raises:
            RequestError: ``request_not_found``.
        """

    async def cancel_stream(self, resume_id: str) -> None:
        """End a resumable stream, wherever it is.

        Raises:
            RequestError: ``resume_expired``.
        """

    async def close(self) -> None:
        """Cancel everything and disconnect."""


def connect(
    url: str, *, api_key: str | None = None, ca: Path | None = None, curve: Curve | None = None
) -> Transport:
    """A transport to ``grpc[s]://host:port``, ``zmq://host:port`` or ``tcp://host:port``. Connects when first used.

    Raises:
        SettingsError: the URL is of none of these forms, ``ca`` cannot be read, or something does not go with the URL.
    """
    parts = urlsplit(url)
    try:
        is_address = bool(parts.hostname and parts.port) and not (parts.path or parts.query or parts.username)
    except ValueError:
        is_address = False
    if ca is not None and parts.scheme != "grpcs":
        raise SettingsError(f"authorities are for TLS (grpcs://host:port); the gateway's URL is {url!r}")
    if parts.scheme in ("zmq", "tcp") and is_address:
        if api_key is not None:
            raise SettingsError(f"API keys are for gRPC and HTTP; the gateway's URL is {url!r}")
        from pipespec.client.zmq_transport import ZmqTransport  # noqa: PLC0415 - needs only what is used

        return ZmqTransport(parts.netloc, curve=curve)
    if curve is not None:
        raise SettingsError(f"CURVE keys are for ZeroMQ (zmq://host:port); the gateway's URL is {url!r}")
    if parts.scheme in ("grpc", "grpcs") and is_address:
        from pipespec.client.grpc_transport import GrpcTransport  # noqa: PLC0415 - slow to import

        return GrpcTransport(parts.netloc, tls=parts.scheme == "grpcs", ca=ca, api_key=api_key)
    raise SettingsError(
        f"the gateway's URL is {url!r}; expected grpc://host:port, grpcs://host:port, zmq://host:port or tcp://host:port"
    )
