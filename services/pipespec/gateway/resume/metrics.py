"""Numbers about resumable streams, read when they are scraped."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from pipespec.gateway.resume.service import ResumeService


class ResumeMetrics(Collector):
    """Collects from the service."""

    def __init__(self, service: ResumeService) -> None:
        self._service = service

    def collect(self) -> Iterator[Metric]:
        """All metric families of resumable streams."""
        gauges = (
            ("streams", "Resumable streams kept, running or not.", self._service.num_streams),
            ("bytes", "That resumable streams count with.", self._service.num_bytes),
            ("readers", "Clients that read a resumable stream here.", self._service.num_readers),
        )
        for name, help_, value in gauges:
            yield GaugeMetricFamily(f"pipespec_gateway_resumable_{name}", help_, value=value)
        resumed = CounterMetricFamily(
            "pipespec_gateway_resumes", "Attempts to resume a stream, by how they began.", labels=["outcome"]
        )
        for outcome, count in list(self._service.resumes.items()):
            resumed.add_metric([outcome], count)
        yield resumed
