"""Runs the HTTP application inside the running event loop."""

from __future__ import annotations

import asyncio
import contextlib
import math
import socket
from collections.abc import Callable, Iterator

import uvicorn
from fastapi import FastAPI

from pipespec.gateway.access import Certificate
from pipespec.gateway.background import first_end
from pipespec.gateway.generation import shutting_down
from pipespec.gateway.openai.connection import MAX_CONNECTIONS, MAX_HEAD, Connection
from pipespec.ops.errors import SettingsError

IDLE_TIMEOUT_S = 75
HANDSHAKE_TIMEOUT_S = 10.0
"""Of TLS."""
_FLUSH_S = 1
"""Seconds for the errors of requests that are cut at the end of the grace; then they are cancelled."""


class HttpServer:
    """A listening server; ``stop`` it.

    Attributes:
        port: the bound one, also when 0 was asked for.
    """

    def __init__(
        self, server: _Uvicorn, listener: socket.socket, *, on_grace_over: Callable[[], None]
    ) -> None:
        self.port: int = listener.getsockname()[1]
        self._server = server
        self._on_grace_over = on_grace_over
        self._task = asyncio.create_task(server.serve(sockets=[listener]), name="http")

    async def started(self) -> None:
        """Return when requests are accepted; raise what ended the server otherwise."""
        ready = asyncio.create_task(self._server.ready.wait())
        await asyncio.wait({ready, self._task}, return_when=asyncio.FIRST_COMPLETED)
        if not ready.done():
            ready.cancel()
            self._task.result()

    async def failed(self) -> None:
        """Wait until the server ends, which it does not by itself, and raise its error."""
        await first_end(self._task)

    async def stop(self, *, grace_s: float = 10.0) -> None:
        """Stop listening, let running requests finish for ``grace_s``, end the others with an error."""
        self._server.config.timeout_graceful_shutdown = math.ceil(grace_s) + _FLUSH_S
        self._server.should_exit = True
        await asyncio.wait({self._task}, timeout=grace_s)
        self._on_grace_over()
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
        # As uvicorn does it for sockets that it is given, but with a bound for TLS handshakes.
        loop, config = asyncio.get_running_loop(), self.config
        await self.lifespan.startup()

        def connection() -> asyncio.Protocol:
            return Connection(config, self.server_state, self.lifespan.state)

        self.servers = [
            await loop.create_server(
                connection,
                sock=listener,
                ssl=config.ssl,
                backlog=config.backlog,
                ssl_handshake_timeout=None if config.ssl is None else HANDSHAKE_TIMEOUT_S,
            )
            for listener in sockets or ()
        ]
        self.started = True
        self.ready.set()


async def serve_http(
    app: FastAPI, host: str, port: int, *, certificate: Certificate | None = None
) -> HttpServer:
    """Start to serve an application of ``create_app``; returns when requests are accepted.

    Args:
        app: the application.
        host: address to bind.
        port: 0 picks a free one.
        certificate: serves HTTPS, and that alone; None serves plain HTTP.

    Raises:
        SettingsError: the address cannot be bound.
    """
    config = uvicorn.Config(
        app,
        http=Connection,
        ws="none",
        lifespan="off",
        log_config=None,
        log_level="error",  # its warnings are about what clients send: strangers must not fill the log
        access_log=False,
        server_header=False,
        h11_max_incomplete_event_size=MAX_HEAD,
        timeout_keep_alive=IDLE_TIMEOUT_S,
        ssl_context_factory=None
        if certificate is None
        else lambda _config, _default: certificate.ssl_context,
    )
    server = HttpServer(
        _Uvicorn(config),
        _listen(host, port),
        on_grace_over=lambda: app.state.generator.interrupt_all(shutting_down()),
    )
    await server.started()
    return server


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        listener = socket.create_server((host, port), family=family, backlog=MAX_CONNECTIONS)
    except OSError as error:
        raise SettingsError(f"cannot serve HTTP at {host} port {port}: {error.strerror}") from error
    # asyncio does so only for sockets of protocol "tcp", which create_server leaves open: without it, the kernel
    # holds the second write of a response until the client acknowledges the first, up to 40 ms later.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listener
