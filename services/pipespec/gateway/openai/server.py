"""Runs the HTTP application inside the running event loop."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Iterator

import uvicorn
from starlette.types import ASGIApp

from pipespec.ops.errors import SettingsError

MAX_CONNECTIONS = 1024
IDLE_TIMEOUT_S = 75


class HttpServer:
    """A listening server; ``stop`` it.

    Attributes:
        port: the bound one, also when 0 was asked for.
    """

    def __init__(self, server: _Uvicorn, listener: socket.socket) -> None:
        self.port: int = listener.getsockname()[1]
        self._server = server
        self._task = asyncio.create_task(server.serve(sockets=[listener]), name="http")

    async def started(self) -> None:
        """Return when requests are accepted; raise what ended the server otherwise."""
        ready = asyncio.create_task(self._server.ready.wait())
        await asyncio.wait({ready, self._task}, return_when=asyncio.FIRST_COMPLETED)
        if not ready.done():
            ready.cancel()
            self._task.result()

    async def stop(self, *, grace_s: float = 10.0) -> None:
        """Stop listening, let running requests finish for ``grace_s``, then cancel them."""
        self._server.config.timeout_graceful_shutdown = max(1, round(grace_s)) if grace_s else 0
        self._server.should_exit = True
        await self._task


class _Uvicorn(uvicorn.Server):
    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.ready = asyncio.Event()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        # Signals belong to the service around this server.
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.ready.set()


async def serve_http(app: ASGIApp, host: str, port: int) -> HttpServer:
    """Start to serve; returns when requests are accepted.

    Raises:
        SettingsError: the address cannot be bound.
    """
    config = uvicorn.Config(
        app,
        http="h11",
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        limit_concurrency=MAX_CONNECTIONS,
        timeout_keep_alive=IDLE_TIMEOUT_S,
    )
    server = HttpServer(_Uvicorn(config), _listen(host, port))
    await server.started()
    return server


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=MAX_CONNECTIONS)
    except OSError as error:
        raise SettingsError(f"cannot serve HTTP at {host} port {port}: {error.strerror}") from error
