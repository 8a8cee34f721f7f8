"""The gateway process: text, bus, client ports; drains before it ends.

One event loop runs the core and all client adapters. At SIGTERM the gateway stops being ready, refuses new sessions
with a reason, lets running streams finish for a while, then closes what is left with an explicit error.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Coroutine, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from typing import Protocol

import structlog
from prometheus_client.registry import Collector

from pipespec.bus.address import bus_client_keys
from pipespec.bus.link import BusLink
from pipespec.emulation.vocabulary import CHAT_TEMPLATE, byte_tokenizer
from pipespec.gateway.access import Access
from pipespec.gateway.gate import Limits
from pipespec.gateway.grpc import serve_grpc
from pipespec.gateway.metrics import EdgeGuardMetrics, GatewayMetrics
from pipespec.gateway.openai import create_app, serve_http
from pipespec.gateway.resume import ResumeMetrics, ResumeService
from pipespec.gateway.sessions import Endings, PipelineBackend
from pipespec.gateway.text import ChatTemplate, TextModel
from pipespec.gateway.zmq import ZmqServer, serve_zmq
from pipespec.models.fetch import resolve
from pipespec.models.folder import Part
from pipespec.models.identity import tokenizer_digest, vocabulary_digest
from pipespec.ops.health import HealthServer
from pipespec.ops.lifecycle import Shutdown
from pipespec.ops.logs import configure_logging
from pipespec.ops.pipeline import Pipeline, StageKind, StageSettings
from pipespec.protocol.fleet import Fleet
from pipespec.protocol.gateway_replica import GatewayReplica
from pipespec.protocol.ids import FLEET, gateway_inbox
from pipespec.protocol.timers import Timers

STOP_S = 1.0
"""For the edges to say the last words to what is left after the drain."""
HUNG_S = 10.0
"""An event loop that has not turned its clock for so long hangs."""

log = structlog.get_logger(__name__)


def run(pipeline: Pipeline, replica: str) -> None:
    """Run one gateway replica until SIGTERM or SIGINT.

    Raises:
        ModelError: the target's tokenizer cannot be loaded.
        SettingsError: a port cannot be bound, keys or certificate cannot be used, or pods are to be watched and there is
            no cluster.
    """
    configure_logging(pipeline.log, service="gateway", replica=replica)
    with Shutdown.on_signals() as shutdown, _cluster(pipeline) as (endings, metrics):
        asyncio.run(_serve(pipeline, replica, shutdown, endings=endings, metrics=metrics))


@contextmanager
def _cluster(pipeline: Pipeline) -> Iterator[tuple[Endings, Collector | None]]:
    """What the cluster says of the stages' pods, and that watch's metrics, where the settings ask for it."""
    if pipeline.kubernetes is None or not pipeline.kubernetes.watch:
        yield frozenset, None
        return
    from pipespec.kube.connection import connect  # noqa: PLC0415 - the extra 'cluster', and only where it is asked for
    from pipespec.kube.metrics import WatchMetrics  # noqa: PLC0415 - as above
    from pipespec.kube.watch import EndpointWatch  # noqa: PLC0415 - as above

    with EndpointWatch(connect(), pipeline.kubernetes) as watch:
        yield lambda: watch.endings, WatchMetrics(watch)


async def _serve(
    pipeline: Pipeline, replica: str, shutdown: Shutdown, *, endings: Endings, metrics: Collector | None
) -> None:
    access = Access.of(pipeline.gateway)
    text, tokenizer = _text(pipeline.target)
    timers = Timers.of(pipeline.timers)
    fleet = Fleet(num_stages=len(pipeline.stages), tokenizer=tokenizer, timers=timers)
    backend = PipelineBackend(
        GatewayReplica(fleet, timers),
        replica=replica,
        limits=Limits.of(pipeline.gateway),
        tick_s=timers.heartbeat_s / 2,
        endings=endings,
    )
    link = BusLink(
        pipeline.brokers,
        keys=bus_client_keys(pipeline),
        inbox=gateway_inbox(replica),
        topics=[FLEET],
        on_news=backend.on_news,
    )
    backend.attach(link)
    listening = threading.Event()
    health = HealthServer(
        host=pipeline.gateway.host,
        port=pipeline.gateway.metrics_port,
        is_alive=lambda: time.monotonic() - backend.turned_s < HUNG_S,
        is_ready=lambda: listening.is_set() and backend.is_ready,
    )
    with health:
        health.register(GatewayMetrics(backend, link))
        if metrics is not None:
            health.register(metrics)
        try:
            async with backend, AsyncExitStack() as stack:
                resume = _resume(pipeline, backend, replica, timers)
                if resume is not None:
                    await stack.enter_async_context(resume)
                    health.register(ResumeMetrics(resume))
                if not await asyncio.to_thread(link.start, heartbeat=backend.heartbeat):
                    log.warning(
                        "bus.not_joined_yet",
                        advice="is a broker running, and is this process's key listed? it goes on trying",
                    )
                async with _edges(pipeline, backend, text, access, resume) as edges:
                    for edge in edges:
                        if isinstance(edge, ZmqServer) and edge.guard is not None:
                            health.register(EdgeGuardMetrics(edge.guard))
                    listening.set()
                    log.info("gateway.ready", metrics=health.url, model=pipeline.model_name)
                    work = _work(pipeline, backend, shutdown, resume=resume)
                    failures = (access.follow(), backend.failed(), *(edge.failed() for edge in edges))
                    await _first(work, *failures)
        finally:
            link.close()  # publishes what is queued first: stages hear that their sessions are closed


def _resume(
    pipeline: Pipeline, backend: PipelineBackend, replica: str, timers: Timers
) -> ResumeService | None:
    """What keeps resumable streams, unless the settings turn it off."""
    if pipeline.gateway.resume_grace_s == 0:
        return None
    resume = ResumeService(
        pipeline.gateway,
        replica=replica,
        timers=timers,
        publish=backend.publish,
        may_exist=backend.core.fellows.may_exist,
    )
    backend.attach_fellows(resume)
    return resume


def _text(target: StageSettings) -> tuple[TextModel, bytes]:
    """The target's text side, and the digest of its vocabulary."""
    if target.kind is StageKind.EMULATED:
        tokenizer = byte_tokenizer()
        template = ChatTemplate(CHAT_TEMPLATE, special_tokens={})
        return TextModel(tokenizer, template=template), vocabulary_digest(tokenizer)
    folder = resolve(target.model or "", target.revision, part=Part.TEXT)
    return TextModel.load(folder), tokenizer_digest(folder)


class Edge(Protocol):
    """A listening server of one client protocol."""

    port: int

    async def failed(self) -> None:
        """Wait until it can no longer serve, and raise why."""

    async def stop(self, *, grace_s: float) -> None:
        """Let running requests finish for ``grace_s``, end the rest with an explicit error."""


@asynccontextmanager
async def _edges(
    pipeline: Pipeline,
    backend: PipelineBackend,
    text: TextModel,
    access: Access,
    resume: ResumeService | None,
) -> AsyncIterator[list[Edge]]:
    """HTTP, gRPC and ZeroMQ, for as long as the block lasts."""
    settings, name = pipeline.gateway, pipeline.model_name
    keys, certificate = access.keys, access.certificate
    app = create_app(backend=backend, text=text, settings=settings, model_name=name, keys=keys, resume=resume)
    edges: list[Edge] = []
    try:
        edges.append(await serve_http(app, settings.host, settings.http_port, certificate=certificate))
        edges.append(
            await serve_grpc(
                backend=backend,
                text=text,
                settings=settings,
                model_name=name,
                host=settings.host,
                port=settings.grpc_port,
                keys=keys,
                certificate=certificate,
                resume=resume,
            )
        )
        edges.append(
            await serve_zmq(
                backend=backend,
                text=text,
                settings=settings,
                model_name=name,
                host=settings.host,
                port=settings.zmq_port,
                keys=keys,
                resume=resume,
            )
        )
        http, grpc, zmq = (edge.port for edge in edges)
        log.info(
            "gateway.listening",
            host=settings.host,
            http=http,
            grpc=grpc,
            zmq=zmq,
            tls=certificate is not None,
            keys=keys is not None,
        )
        yield edges
    finally:
        if resume is not None:
            resume.leave()
        await asyncio.gather(*(edge.stop(grace_s=STOP_S) for edge in edges))


async def _work(
    pipeline: Pipeline, backend: PipelineBackend, shutdown: Shutdown, *, resume: ResumeService | None
) -> None:
    """Until the shutdown; then no new sessions, and wait for those that run, and for who reads what they have said."""
    loop, over = asyncio.get_running_loop(), asyncio.Event()

    def end() -> None:
        loop.call_soon_threadsafe(over.set)

    shutdown.call(end)
    await over.wait()
    log.info("gateway.draining", reason=shutdown.reason, sessions=backend.num_sessions)
    settings = pipeline.gateway
    until_s = loop.time() + settings.drain_delay_s + settings.drain_timeout_s
    await backend.drain(delay_s=settings.drain_delay_s, timeout_s=settings.drain_timeout_s)
    if resume is not None:
        await resume.delivered(timeout_s=until_s - loop.time())
    log.info("gateway.stopping", sessions_cut=backend.num_sessions)


async def _first(*alternatives: Coroutine[None, None, None]) -> None:
    """Return when the first ends, or raise what it raises; the others are cancelled."""
    tasks = [asyncio.create_task(alternative) for alternative in alternatives]
    done, pending = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    for task in pending:
        task.cancel()
    await asyncio.gather(*pending, return_exceptions=True)
    for task in done:
        task.result()
