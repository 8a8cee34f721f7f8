"""Metrics that the services export, with their labels: asked of the services' own collectors."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

from prometheus_client import REGISTRY, Metric

import pipespec.gateway.generation.record
import pipespec.gateway.zmq.server  # noqa: F401 - both register their metrics when they are imported
from autoscaler.virtual import EVERYONE, INTERVAL_S, Cluster, Service
from pipespec.autoscaler.metrics import AutoscalerMetrics
from pipespec.broker.forwarder import Forwarder
from pipespec.broker.service import BrokerMetrics
from pipespec.bus.guard import ServerKeys
from pipespec.bus.key_folder import KeyFolder
from pipespec.bus.link import BusLink
from pipespec.engine.load import load_engine
from pipespec.gateway.gate import Limits
from pipespec.gateway.metrics import EdgeGuardMetrics, GatewayMetrics
from pipespec.gateway.sessions import PipelineBackend
from pipespec.ops.pipeline import BrokerSettings, Pipeline
from pipespec.protocol.fleet import Fleet
from pipespec.protocol.gateway_replica import GatewayReplica
from pipespec.protocol.timers import Timers
from pipespec.stage.metrics import StageMetrics
from pipespec.stage.service import assemble


def exported(pipeline: Pipeline) -> dict[str, set[str]]:
    """Labels of each metric family and sample, by name; pods' and Prometheus' own labels are not among them."""
    labels: dict[str, set[str]] = defaultdict(set)
    for family in _families(
        pipeline.model_copy(update={"brokers": (BrokerSettings(publish_port=1, subscribe_port=2),)})
    ):
        is_counter, is_histogram = family.type == "counter", family.type == "histogram"
        names = [f"{family.name}_total"] if is_counter else [family.name]
        if is_histogram:
            names = [f"{family.name}_{part}" for part in ("bucket", "sum", "count")]
        for name in names:
            labels[name] |= {label for sample in family.samples for label in sample.labels} | _declared(
                family
            )
    return dict(labels)


def _declared(family: Metric) -> set[str]:
    """Labels of which there may be no sample yet."""
    metric = REGISTRY._names_to_collectors.get(family.name)
    return {
        *getattr(metric, "_labelnames", ()),
        *getattr(family, "_labelnames", ()),
        *({"le"} if family.type == "histogram" else ()),
    }


def _families(pipeline: Pipeline) -> Iterator[Metric]:
    yield from (family for family in REGISTRY.collect() if family.name.startswith("pipespec_"))
    yield from _of_stage(pipeline)
    yield from _of_gateway(pipeline)
    yield from _of_autoscaler()
    with TemporaryDirectory() as path:
        folder = KeyFolder(Path(path))
        folder.create("fleet", num_servers=1)
        anywhere = "tcp://127.0.0.1:*"
        keys = ServerKeys.read(folder.server)
        forwarder = Forwarder(publish_at=anywhere, subscribe_at=anywhere, keys=keys)
        yield from BrokerMetrics(forwarder).collect()
        assert forwarder.guard is not None
        yield from EdgeGuardMetrics(forwarder.guard).collect()
        forwarder.stop()


def _of_stage(pipeline: Pipeline) -> Iterable[Metric]:
    link, loop = assemble(pipeline, 0, "r0", load_engine(pipeline.stages[0], later=pipeline.stages[1:]))
    with closing(link):
        return list(StageMetrics(loop, link).collect())


def _of_gateway(pipeline: Pipeline) -> Iterable[Metric]:
    timers = Timers.of(pipeline.timers)
    fleet = Fleet(num_stages=len(pipeline.stages), tokenizer=bytes(16), timers=timers)
    backend = PipelineBackend(
        GatewayReplica(fleet, timers), replica="g0", limits=Limits(sessions=1), tick_s=1.0, endings=frozenset
    )
    with closing(BusLink(pipeline.brokers, inbox=b"gateway.g0.")) as link:
        return list(GatewayMetrics(backend, link).collect())


def _of_autoscaler() -> Iterable[Metric]:
    cluster = Cluster(failures={"scale": {"409": 1}})
    service = Service(cluster=cluster)
    service.hear(*EVERYONE, seconds=INTERVAL_S + 1)
    if service.loop.load is not None:
        service.loop.load = replace(service.loop.load, ms_per_token=1.0)
    with closing(BusLink([BrokerSettings(publish_port=1, subscribe_port=2)], inbox=b"observer.a0.")) as link:
        return list(AutoscalerMetrics(service.loop, link, cluster).collect())
