"""A small HTTP server for probes and metrics: ``/healthz``, ``/livez``, ``/readyz`` and ``/metrics``.

On a thread and a port of its own, away from clients. ``/healthz`` and ``/livez`` say that the loop turns; ``/readyz``
says that work can be done. Neither says yes out of habit: both ask the service.
"""

from __future__ import annotations

import json
import socket
import sys
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self

import structlog
from prometheus_client import CONTENT_TYPE_LATEST, REGISTRY, CollectorRegistry, generate_latest
from prometheus_client.registry import Collector

from pipespec import __version__
from pipespec.ops.errors import SettingsError

MAX_CONNECTIONS = 64
"""At once, each a thread for five seconds of silence at most; probes and scrapes need a few. Others are closed unanswered."""

log = structlog.get_logger(__name__)


class HealthServer:
    """Serves until the end of its ``with`` block. Port 0 takes a free one; ``url`` says which.

    ``/metrics`` shows the process's global registry (metrics defined at import, the process itself) and what is
    registered here.

    Raises:
        SettingsError: the port cannot be bound.
    """

    def __init__(
        self, *, host: str, port: int, is_alive: Callable[[], bool], is_ready: Callable[[], bool]
    ) -> None:
        self.registry = CollectorRegistry()
        answers = {"/healthz": is_alive, "/livez": is_alive, "/readyz": is_ready}
        handler = type("Handler", (_Handler,), {"answers": answers, "registry": self.registry})
        try:
            self._server = (_ServerV6 if ":" in host else _Server)((host, port), handler)
        except OSError as error:
            raise SettingsError(
                f"cannot listen at {host}:{port} for metrics: {error.strerror}; set another metrics port"
            ) from error
        self._thread = threading.Thread(target=self._server.serve_forever, name="health", daemon=True)

    @property
    def url(self) -> str:
        """Where it listens."""
        host, port = (str(part) for part in self._server.server_address[:2])
        return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"

    def register(self, collector: Collector) -> None:
        """Show the collector's metrics too."""
        self.registry.register(collector)

    def __enter__(self) -> Self:
        """Begin to answer."""
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop answering."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(timeout=5)


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, address: tuple[str, int], handler: type[BaseHTTPRequestHandler]) -> None:
        self._free = threading.BoundedSemaphore(MAX_CONNECTIONS)
        super().__init__(address, handler)

    def process_request(self, request: Any, client_address: Any) -> None:
        """Answer in a thread of its own, where one is free."""
        if self._free.acquire(blocking=False):
            super().process_request(request, client_address)
        else:
            self.shutdown_request(request)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """Answer, in that thread."""
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._free.release()

    def handle_error(self, request: object, client_address: object) -> None:
        """A probe that hung up before its answer is not news; anything else is."""
        del request
        error = sys.exception()
        if not isinstance(error, ConnectionError | TimeoutError):
            log.error("health.failed", client=client_address, exc_info=error)


class _ServerV6(_Server):
    address_family = socket.AF_INET6


class _Handler(BaseHTTPRequestHandler):
    answers: dict[str, Callable[[], bool]]
    registry: CollectorRegistry
    server_version = f"pipespec/{__version__}"
    timeout = 5

    def do_GET(self) -> None:
        """Answer a probe or a scrape."""
        path = self.path.partition("?")[0]
        if path == "/metrics":
            self._reply(200, CONTENT_TYPE_LATEST, generate_latest(REGISTRY) + generate_latest(self.registry))
        elif path in self.answers:
            is_well = self.answers[path]()
            body = json.dumps({"status": "ok" if is_well else "unavailable"}).encode()
            self._reply(200 if is_well else 503, "application/json", body)
        else:
            self._reply(404, "application/json", b'{"status": "not found"}')

    def _reply(self, status: int, content_type: str, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Probes are not news."""
