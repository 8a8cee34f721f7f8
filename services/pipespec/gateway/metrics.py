"""The gateway's numbers, read when they are scraped."""

from __future__ import annotations

import time
from collections.abc import Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from pipespec.bus.guard import Guard
from pipespec.bus.link import BusLink
from pipespec.bus.metrics import bus_metrics, guard_metrics
from pipespec.gateway.sessions import PipelineBackend


class EdgeGuardMetrics(Collector):
    """Collects from who lets ZeroMQ clients in."""

    def __init__(self, guard: Guard) -> None:
        self._guard = guard

    def collect(self) -> Iterator[Metric]:
        """Handshakes, by what became of them."""
        yield from guard_metrics("pipespec_gateway_zmq", self._guard)


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
        yield from self._gate_metrics()
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

    def _gate_metrics(self) -> Iterator[Metric]:
        ledger = self._backend.gate.ledger
        for name, help_text, value in (
            ("active_requests", "Requests between their arrival and their last word.", ledger.num_inside),
            ("waiting_requests", "Requests that wait for room.", len(ledger.waiting)),
            ("tokens_in_flight", "Tokens that requests hold and may still generate.", ledger.tokens),
            ("prompt_bytes", "Bytes of the prompts of all requests.", ledger.num_bytes),
            ("arriving_bytes", "Bytes of HTTP bodies that are being read.", self._backend.arriving.num_bytes),
        ):
            yield GaugeMetricFamily(f"pipespec_gateway_{name}", help_text, value=value)
