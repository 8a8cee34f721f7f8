"""The gateway's numbers, read when they are scraped."""

from __future__ import annotations

import time
from collections.abc import Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from pipespec.bus.link import BusLink
from pipespec.bus.metrics import bus_metrics
from pipespec.gateway.sessions import PipelineBackend


class GatewayMetrics(Collector):
    """Collects from the backend and its link."""

    def __init__(self, backend: PipelineBackend, link: BusLink) -> None:
        self._backend = backend
        self._link = link

    def collect(self) -> Iterator[Metric]:
        """All metric families of a gateway but those of its edges."""
        yield GaugeMetricFamily(
            "pipespec_gateway_sessions", "Sessions open now.", value=self._backend.num_sessions
        )
        yield CounterMetricFamily(
            "pipespec_gateway_committed_tokens",
            "Tokens committed since the start.",
            value=self._backend.core.progress.tokens,
        )
        yield CounterMetricFamily(
            "pipespec_gateway_refused_sessions",
            "Sessions for which there was no room.",
            value=self._backend.num_refused,
        )
        segments = CounterMetricFamily(
            "pipespec_gateway_events",
            "What the core did with messages: segments that extended, forked or came twice; reroutes; refusals.",
            labels=["event"],
        )
        for event, count in list(self._backend.core.counts.items()):
            segments.add_metric([event], count)
        yield segments
        replicas = GaugeMetricFamily(
            "pipespec_gateway_usable_replicas", "Replicas that get sessions, by stage.", labels=["stage"]
        )
        now, fleet = time.monotonic(), self._backend.core.fleet
        living = [beat for beat in fleet.living(now) if fleet.is_usable(now, (beat.rank, beat.replica))]
        usable = [sum(beat.rank == rank for beat in living) for rank in range(fleet.num_stages)]
        for rank, count in enumerate(usable):
            replicas.add_metric([str(rank)], count)
        yield replicas
        yield GaugeMetricFamily(
            "pipespec_gateway_degraded",
            "1 while some stage has no usable replica: slower without a draft, nothing without a target.",
            value=float(0 in usable),
        )
        yield from bus_metrics(self._link)
