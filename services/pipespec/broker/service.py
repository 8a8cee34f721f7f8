"""The broker process: one forwarder until told to stop."""

from __future__ import annotations

from collections.abc import Iterator

import structlog
from prometheus_client.core import CounterMetricFamily, Metric
from prometheus_client.registry import Collector

from pipespec.broker.forwarder import Forwarder
from pipespec.bus.address import bind_endpoints
from pipespec.bus.guard import ServerKeys
from pipespec.bus.metrics import guard_metrics
from pipespec.ops.errors import InvariantBroken
from pipespec.ops.health import HealthServer
from pipespec.ops.lifecycle import Shutdown
from pipespec.ops.logs import configure_logging
from pipespec.ops.pipeline import Pipeline

_WATCH_S = 1.0

log = structlog.get_logger(__name__)


def run(pipeline: Pipeline, index: int) -> None:
    """Run one broker until SIGTERM or SIGINT.

    Raises:
        SettingsError: a port cannot be bound, or the keys cannot be used.
    """
    configure_logging(pipeline.log, service="broker", index=index)
    settings = pipeline.brokers[index]
    with Shutdown.on_signals() as shutdown:
        publish_at, subscribe_at = bind_endpoints(settings)
        folder = pipeline.bus.server_keys
        keys = None if folder is None else ServerKeys.read(folder, index=index)
        forwarder = Forwarder(publish_at=publish_at, subscribe_at=subscribe_at, keys=keys)
        health = HealthServer(
            host=settings.bind or settings.host,
            port=settings.metrics_port,
            is_alive=lambda: forwarder.turns,
            is_ready=lambda: forwarder.turns and not shutdown.is_set(),
        )
        with health:
            health.register(BrokerMetrics(forwarder))
            log.info(
                "broker.ready",
                publish=publish_at,
                subscribe=subscribe_at,
                curve=keys is not None,
                metrics=health.url,
            )
            while not shutdown.wait(_WATCH_S):
                if not forwarder.is_running:
                    raise InvariantBroken("the forwarder has ended by itself")
            log.info("broker.stopping", reason=shutdown.reason)
        forwarder.stop()


class BrokerMetrics(Collector):
    """The proxy loop's own statistics, and the guard's."""

    def __init__(self, forwarder: Forwarder) -> None:
        self._forwarder = forwarder

    def collect(self) -> Iterator[Metric]:
        """All metric families of a broker."""
        now = self._forwarder.statistics()
        for name, value in (
            ("received_messages", now.messages_in),
            ("received_bytes", now.bytes_in),
            ("sent_messages", now.messages_out),
            ("sent_bytes", now.bytes_out),
        ):
            yield CounterMetricFamily(
                f"pipespec_broker_{name}", f"Since the start: {name.replace('_', ' ')}.", value=value
            )
        if self._forwarder.guard is not None:
            yield from guard_metrics("pipespec_broker", self._forwarder.guard)
