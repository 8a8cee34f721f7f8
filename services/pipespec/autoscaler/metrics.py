"""The autoscaler's numbers, read when they are scraped."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from pipespec.autoscaler.loop import AutoscalerLoop, Cluster
from pipespec.bus.link import BusLink
from pipespec.bus.metrics import bus_metrics
from pipespec.planner.scaling.decision import Decision
from pipespec.planner.scaling.load import FleetLoad

_PREFIX = "pipespec_autoscaler_"


class AutoscalerMetrics(Collector):
    """Collects from the loop and its link.

    Args:
        loop: of this process.
        link: its own.
        cluster: None where there is none.
    """

    def __init__(self, loop: AutoscalerLoop, link: BusLink, cluster: Cluster | None) -> None:
        self._loop = loop
        self._link = link
        self._cluster = cluster

    def collect(self) -> Iterator[Metric]:
        """All metric families of an autoscaler."""
        loop = self._loop
        leads = self._cluster is not None and self._cluster.is_leading
        yield _gauge("leader", "1 while this process leads.", float(leads))
        yield _gauge("telemetry_complete", "1 while enough is heard to decide.", float(not loop.lack))
        ages = GaugeMetricFamily(
            f"{_PREFIX}telemetry_age_seconds",
            "Since a replica of the stage was last heard of.",
            labels=["stage"],
        )
        for rank, heard_s in sorted(loop.heard_s.items()):
            ages.add_metric([str(rank)], time.monotonic() - heard_s)
        yield ages
        decisions = CounterMetricFamily(
            f"{_PREFIX}decisions",
            "Decisions by outcome: more or fewer replicas than were asked for, other ones, the same.",
            labels=["outcome"],
        )
        for outcome, count in list(loop.counts.items()):
            decisions.add_metric([outcome], count)
        yield decisions
        yield self._failures()
        if loop.load is not None and loop.decision is not None:
            yield from _of_load(loop.load)
            yield from _of_decision(loop.decision)
        yield from bus_metrics(self._link)

    def _failures(self) -> Metric:
        failures = CounterMetricFamily(
            f"{_PREFIX}api_failures",
            "Calls to the Kubernetes API that failed, by what they were for, and code.",
            labels=["call", "code"],
        )
        for call, codes in ({} if self._cluster is None else self._cluster.failures).items():
            for code, count in codes.items():
                failures.add_metric([call, code], count)
        return failures


def _of_load(load: FleetLoad) -> Iterator[Metric]:
    for name, help_text, values in (
        ("asked_replicas", "Replicas that the cluster was asked for.", [one.asked for one in load.stages]),
        ("ready_replicas", "Replicas that take sessions.", [one.ready for one in load.stages]),
    ):
        yield _by_stage(name, help_text, values)
    yield _gauge("sessions", "Sessions open at all gateways.", load.sessions)
    if load.ms_per_token is not None:
        yield _gauge("ms_per_token", "Milliseconds that streams waited for a token.", load.ms_per_token)


def _of_decision(decision: Decision) -> Iterator[Metric]:
    yield _by_stage("wanted_replicas", "Replicas that were decided.", decision.replicas)
    yield _by_stage("needed_replicas", "The same before waits and drains.", decision.needed)
    yield _gauge("planned_sessions", "Sessions that there should be room for.", decision.forecast)
    yield _gauge(
        "predicted_ms_per_token", "Milliseconds per token that are predicted.", decision.ms_per_token
    )
    yield _gauge("goal_met", "1 where the replicas that are needed keep the goal.", float(decision.is_met))
    yield _gauge("wanted_gpus", "GPUs that the replicas occupy that were decided.", decision.gpus)


def _gauge(name: str, help_text: str, value: float) -> Metric:
    return GaugeMetricFamily(_PREFIX + name, help_text, value=value)


def _by_stage(name: str, help_text: str, values: Iterable[int]) -> Metric:
    family = GaugeMetricFamily(_PREFIX + name, help_text, labels=["stage"])
    for rank, value in enumerate(values):
        family.add_metric([str(rank)], value)
    return family
