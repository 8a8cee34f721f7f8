"""Runs the gRPC server inside the running event loop.

Guarded by keys and encrypted where there are any; bounded in messages, headers, calls, connections and pings.
"""

from __future__ import annotations

import asyncio
from typing import Any

import grpc
from grpc_health.v1 import health, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from pipespec.gateway.access import Certificate, KeyRing, PemPair
from pipespec.gateway.backend import Backend
from pipespec.gateway.background import first_end
from pipespec.gateway.generation import Generator, shutting_down
from pipespec.gateway.grpc.decoding import Decoding
from pipespec.gateway.grpc.guard import Guard
from pipespec.gateway.grpc.health import HealthServicer, follow_readiness, new_servicer, set_status
from pipespec.gateway.grpc.service import PROTOCOL, GenerationService
from pipespec.gateway.resume import ResumeService
from pipespec.gateway.text import TextModel
from pipespec.ops.errors import SettingsError
from pipespec.ops.pipeline import GatewaySettings
from pipespec.v1 import pipespec_pb2, pipespec_pb2_grpc

SERVICE = pipespec_pb2.DESCRIPTOR.services_by_name["Generation"].full_name
HEALTH_SERVICES = ("", SERVICE)

MAX_MESSAGE = 4 * 1024 * 1024
"""Bytes, either way."""
SPARE_CALLS = 1024
"""At once beyond the sessions that a gateway may have open: health checks, cancellations, and refusals that are being said."""
MIN_STREAMS = 256
MAX_CONNECTIONS = 1024
MAX_METADATA = 16 * 1024
"""Bytes of a call's headers."""
_FLUSH_S = 1.0
"""Seconds for the errors of calls that are cut at the end of the grace."""
_OPTIONS = (
    ("grpc.max_receive_message_length", MAX_MESSAGE),
    ("grpc.max_send_message_length", MAX_MESSAGE),
    ("grpc.max_metadata_size", MAX_METADATA),
    ("grpc.absolute_max_metadata_size", MAX_METADATA),
    ("grpc.max_allowed_incoming_connections", MAX_CONNECTIONS),
    ("grpc.server_handshake_timeout_ms", 10_000),
    ("grpc.max_connection_idle_ms", 300_000),
    # A client that vanished without a word is noticed, and one that pings too often is sent away.
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.min_ping_interval_without_data_ms", 30_000),
    # Connections are renewed, so that clients find new gateway replicas; calls in flight may finish.
    ("grpc.max_connection_age_ms", 3_600_000),
    ("grpc.max_connection_age_grace_ms", 3_600_000),
    ("grpc.so_reuseport", 0),
)


class GrpcServer:
    """A listening server; ``stop`` it.

    Attributes:
        port: the bound one, also when 0 was asked for.
    """

    def __init__(
        self, server: grpc.aio.Server, *, port: int, servicer: HealthServicer, generator: Generator
    ) -> None:
        self.port = port
        self._server = server
        self._generator = generator
        self._servicer = servicer
        self._health = asyncio.create_task(
            follow_readiness(servicer, is_ready=lambda: generator.is_ready, services=HEALTH_SERVICES),
            name="grpc-health",
        )

    async def failed(self) -> None:
        """Wait until the health task ends, which it does not by itself, and raise its error."""
        await first_end(self._health)

    async def stop(self, *, grace_s: float = 10.0) -> None:
        """Say that it is not serving, take no more calls, end those that run longer than ``grace_s`` with an error."""
        self._health.cancel()
        await asyncio.wait({self._health})
        await set_status(self._servicer, ready=False, services=HEALTH_SERVICES)
        stopping = asyncio.create_task(self._server.stop(grace_s + _FLUSH_S))
        await asyncio.wait({stopping}, timeout=grace_s)
        self._generator.interrupt_all(shutting_down())
        await stopping


async def serve_grpc(
    *,
    backend: Backend,
    text: TextModel,
    settings: GatewaySettings,
    model_name: str,
    host: str,
    port: int,
    keys: KeyRing | None = None,
    certificate: Certificate | None = None,
    resume: ResumeService | None = None,
) -> GrpcServer:
    """Start to serve; returns when calls are accepted.

    Args:
        backend: the pipeline.
        text: the model's tokenizer and chat template.
        settings: defaults and limits of requests; whether reflection is on.
        model_name: what clients call the model.
        host: address to bind.
        port: 0 picks a free one.
        keys: of those who may use it; None lets everybody in.
        certificate: serves TLS, and that alone; None serves in plain.
        resume: keeps resumable streams; None where that is turned off.

    Raises:
        SettingsError: the address cannot be bound.
    """
    generator = Generator(
        backend=backend, text=text, settings=settings, model_name=model_name, protocol=PROTOCOL
    )
    max_calls = settings.max_sessions + SPARE_CALLS
    # gRPC refuses what is beyond a connection's streams, instead of letting it wait.
    max_streams = settings.grpc_max_streams or max(MIN_STREAMS, settings.max_sessions)
    options = (
        *_OPTIONS,
        ("grpc.max_concurrent_streams", max_streams),
        # Calls that wait to be taken up: beyond it gRPC cancels any, so that one connection that opens and resets calls
        # as fast as it can would end the calls of others.
        ("grpc.server.max_pending_requests", 4 * max(max_streams, max_calls)),
        ("grpc.server.max_pending_requests_hard_limit", 8 * max(max_streams, max_calls)),
    )
    server = grpc.aio.server(
        interceptors=[Guard(keys), Decoding()], options=options, maximum_concurrent_rpcs=max_calls
    )
    pipespec_pb2_grpc.add_GenerationServicer_to_server(GenerationService(generator, resume), server)
    servicer = new_servicer()
    health_pb2_grpc.add_HealthServicer_to_server(servicer, server)
    if settings.grpc_reflection:
        names = (SERVICE, health.SERVICE_NAME, reflection.SERVICE_NAME)
        reflection.enable_server_reflection(names, server)
    address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    try:
        if certificate is None:
            bound = server.add_insecure_port(address)
        else:
            bound = server.add_secure_port(address, _credentials(certificate))
    except RuntimeError as error:
        raise SettingsError(f"cannot serve gRPC at {address}: {error}") from error
    await set_status(servicer, ready=generator.is_ready, services=HEALTH_SERVICES)
    await server.start()
    return GrpcServer(server, port=bound, servicer=servicer, generator=generator)


def _credentials(certificate: Certificate) -> grpc.ServerCredentials:
    """That give new connections what was loaded last. gRPC takes TLS 1.2 and newer by itself."""
    given = certificate.pair

    def changed() -> Any:
        # In a thread of gRPC's, for every connection, one at a time.
        nonlocal given
        if certificate.pair is given:
            return None
        given = certificate.pair
        return _configuration(given)

    return grpc.dynamic_ssl_server_credentials(_configuration(given), changed)


def _configuration(pair: PemPair) -> Any:
    return grpc.ssl_server_certificate_configuration([(pair.key, pair.chain)])
