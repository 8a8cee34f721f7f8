"""The numbers of a watch, read when they are scraped."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from pipespec.kube.watch import EndpointWatch


class WatchMetrics(Collector):
    """Collects from one watch."""

    def __init__(self, watch: EndpointWatch) -> None:
        self._watch = watch

    def collect(self) -> Iterator[Metric]:
        """How old its knowledge is, and what went wrong."""
        age_s = self._watch.age_s
        yield GaugeMetricFamily(
            "pipespec_kube_watch_age_seconds",
            "Since the API server was last heard of; nothing is known before the first time.",
            value=float("nan") if age_s is None else age_s,
        )
        failures = CounterMetricFamily(
            "pipespec_kube_watch_failures", "Calls of the watch that failed, by code.", labels=["code"]
        )
        for code, count in list(self._watch.failures.items()):
            failures.add_metric([code], count)
        yield failures
