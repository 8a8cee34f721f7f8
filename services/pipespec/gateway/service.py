"""The gateway process: text, bus, client ports; drains before it ends.

One event loop runs the core and all client adapters. At SIGTERM the gateway stops being ready, refuses new sessions
with a reason, lets running streams finish for a while, then closes what is left with an explicit error.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import structlog

from pipespec.bus.link import BusLink
from pipespec.gateway.grpc import serve_grpc
from pipespec.gateway.metrics import GatewayMetrics
from pipespec.gateway.openai import create_app, serve_http
from pipespec.gateway.sessions import PipelineBackend
from pipespec.gateway.text import TextModel
from pipespec.gateway.zmq import serve_zmq
from pipespec.models.fetch import resolve
from pipespec.models.identity import tokenizer_digest
from pipespec.ops.health import HealthServer
from pipespec.ops.lifecycle import Shutdown
from pipespec.ops.logs import configure_logging
from pipespec.ops.pipeline import Pipeline
from pipespec.protocol.fleet import Fleet
from pipespec.protocol.gateway_replica import GatewayReplica
from pipespec.protocol.ids import FLEET, gateway_inbox
from pipespec.protocol.timers import Timers

HUNG_S = 10.0
"""An event loop that has not turned its clock for so long hangs."""

log = structlog.get_logger(__name__)


def run(pipeline: Pipeline, replica: str) -> None:
    """Run one gateway replica until SIGTERM or SIGINT.

    Raises:
        ModelError: the target's tokenizer cannot be loaded.
        SettingsError: a port cannot be bound.
    """
    configure_logging(pipeline.log, service="gateway", replica=replica)
    with Shutdown.on_signals() as shutdown:
        asyncio.run(_serve(pipeline, replica, shutdown))


async def _serve(pipeline: Pipeline, replica: str, shutdown: Shutdown) -> None:
    folder = resolve(pipeline.target.model or "", pipeline.target.revision)
    text = TextModel.load(folder)
    timers = Timers.of(pipeline.timers)
    fleet = Fleet(num_stages=len(pipeline.stages), tokenizer=tokenizer_digest(folder), timers=timers)
    backend = PipelineBackend(
        GatewayReplica(fleet, timers),
        max_sessions=pipeline.gateway.max_sessions,
        tick_s=timers.heartbeat_s / 2,
    )
    link = BusLink(pipeline.brokers, inbox=gateway_inbox(replica), topics=[FLEET], on_batch=backend.on_batch)
    backend.attach(link)
    health = HealthServer(
        host=pipeline.gateway.host,
        port=pipeline.gateway.metrics_port,
        is_alive=lambda: time.monotonic() - backend.turned_s < HUNG_S,
        is_ready=lambda: backend.is_ready,
    )
    with health:
        health.register(GatewayMetrics(backend, link))
        async with backend:
            if not await asyncio.to_thread(link.start):
                log.warning("bus.not_joined_yet", advice="is a broker running? it goes on trying")
            async with _edges(pipeline, backend, text):
                log.info("gateway.ready", metrics=health.url, model=pipeline.model_name)
                await _until(shutdown, backend)
                await _drain(pipeline, backend, shutdown)
        link.close()


@asynccontextmanager
async def _edges(pipeline: Pipeline, backend: PipelineBackend, text: TextModel) -> AsyncIterator[None]:
    """HTTP, gRPC and ZeroMQ, for as long as the block lasts."""
    settings, name = pipeline.gateway, pipeline.model_name
    app = create_app(backend=backend, text=text, settings=settings, model_name=name)
    http = await serve_http(app, settings.host, settings.http_port)
    grpc = await serve_grpc(
        backend=backend,
        text=text,
        settings=settings,
        model_name=name,
        host=settings.host,
        port=settings.grpc_port,
    )
    zmq = await serve_zmq(
        backend=backend,
        text=text,
        settings=settings,
        model_name=name,
        host=settings.host,
        port=settings.zmq_port,
    )
    log.info("gateway.listening", host=settings.host, http=http.port, grpc=grpc.port, zmq=zmq.port)
    try:
        yield
    finally:
        await asyncio.gather(http.stop(grace_s=1), grpc.stop(grace_s=1), zmq.stop())


async def _until(shutdown: Shutdown, backend: PipelineBackend) -> None:
    """Return at the shutdown; raise what broke the pipeline, if that comes first."""
    loop, over = asyncio.get_running_loop(), asyncio.Event()

    def end() -> None:
        loop.call_soon_threadsafe(over.set)

    shutdown.call(end)
    ended = {asyncio.create_task(over.wait()), asyncio.create_task(backend.failed())}
    done, pending = await asyncio.wait(ended, return_when=asyncio.FIRST_COMPLETED)
    for task in pending:
        task.cancel()
    for task in done:
        task.result()


async def _drain(pipeline: Pipeline, backend: PipelineBackend, shutdown: Shutdown) -> None:
    """No new sessions; wait for those that run."""
    log.info("gateway.draining", reason=shutdown.reason, sessions=backend.num_sessions)
    await backend.drain(timeout_s=pipeline.gateway.drain_timeout_s)
    log.info("gateway.stopping", sessions_cut=backend.num_sessions)
