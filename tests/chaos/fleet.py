"""A pipeline as processes, to be shot at: brokers, stage replicas, gateways, each a ``Service``.

Started from a pipeline document as ``pipespec up`` would start it (``lay_out``, ``process_specs``), without its supervisor.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml

from chaos.service import Service, environment_of_programs, until
from e2e.local_chain import free_port
from pipespec.cli.local.layout import Layout, lay_out, process_specs
from pipespec.cli.supervisor.spec import ProcessSpec
from pipespec.ops.pipeline import Pipeline, parse_pipeline

TESTS = Path(__file__).parents[1]
FAST = {
    "heartbeat_ms": 100,
    "dead_ms": 500,
    "stall_ms": 1000,
    "hung_ms": 800,
    "prefill_ms_per_token": 0.5,
    "lease_ms": 4000,
}
"""The timers that the rows' bounds were made for; the lease is shorter than 10 s only to save time."""


class Fleet:
    """All processes of a pipeline, by name: ``broker-0``, ``stage-1-r0``, ``g0``.

    Args:
        document: the pipeline file.
        folder: for files and logs.
        num_gateways: g0, g1, …
        programs: module that runs instead of ``pipespec.cli``, by name of the process.
    """

    def __init__(
        self,
        document: dict[str, Any],
        folder: Path,
        *,
        num_gateways: int = 1,
        programs: Mapping[str, str] | None = None,
    ) -> None:
        self.folder = folder
        zeros = {"publish_port": 0, "subscribe_port": 0, "metrics_port": 0}
        brokers = [zeros | broker for broker in document.get("brokers", [{}])]
        gateway = {"http_port": 0, "grpc_port": 0, "zmq_port": 0, "metrics_port": 0}
        settled = document | {"brokers": brokers, "gateway": gateway | document.get("gateway", {})}
        self.layout = lay_out(parse_pipeline(settled, source="chaos"))
        self.services: dict[str, Service] = {}
        self.gateways: dict[str, Pipeline] = {}
        self._programs = programs or {}
        (folder / "logs").mkdir(parents=True, exist_ok=True)
        *others, gateway_spec = self._specs(self.layout, "pipeline")
        for spec in others:
            self.add(spec)
        self._add_gateway("g0", self.layout.pipeline, gateway_spec)
        for number in range(1, num_gateways):
            self._add_further_gateway(f"g{number}")

    def _specs(self, layout: Layout, name: str) -> list[ProcessSpec]:
        return process_specs(layout, file=self.write(layout.pipeline, name), logs=self.folder / "logs")

    def write(self, pipeline: Pipeline, name: str) -> Path:
        """Put a pipeline file into the folder."""
        file = self.folder / f"{name}.yaml"
        file.write_text(yaml.safe_dump(pipeline.model_dump(mode="json")))
        return file

    def add(self, spec: ProcessSpec) -> Service:
        """Take a process in; it is not started."""
        if (program := self._programs.get(spec.name)) is not None:
            argv = (sys.executable, "-m", program, *spec.argv[3:])
            spec = replace(spec, argv=argv, env=environment_of_programs(TESTS, dict(spec.env)))
        service = self.services[spec.name] = Service(spec)
        return service

    def _add_gateway(self, name: str, pipeline: Pipeline, spec: ProcessSpec) -> None:
        argv = tuple(name if word == "g0" else word for word in spec.argv)
        self.gateways[name] = pipeline
        self.add(replace(spec, name=name, argv=argv, log=self.folder / "logs" / f"{name}.log"))

    def _add_further_gateway(self, name: str) -> None:
        ports = {port: free_port() for port in ("http_port", "grpc_port", "zmq_port", "metrics_port")}
        pipeline = self.layout.pipeline
        pipeline = pipeline.model_copy(update={"gateway": pipeline.gateway.model_copy(update=ports)})
        *_, spec = self._specs(Layout(pipeline, self.layout.stage_ports), name)
        self._add_gateway(name, pipeline, spec)

    @property
    def pipeline(self) -> Pipeline:
        """As it runs; each gateway has other ports of its own."""
        return self.layout.pipeline

    def broker(self, index: int = 0) -> Service:
        return self.services[f"broker-{index}"]

    @property
    def brokers(self) -> list[Service]:
        return [service for service in self.services.values() if service.spec.role == "broker"]

    def stage(self, rank: int, replica: str = "r0") -> Service:
        """A replica; negative ranks count from the end."""
        return self.services[f"stage-{rank % len(self.pipeline.stages)}-{replica}"]

    def stages(self, rank: int) -> list[Service]:
        """All replicas of a stage that run."""
        prefix = f"stage-{rank % len(self.pipeline.stages)}-"
        return [s for s in self.services.values() if s.spec.name.startswith(prefix) and s.runs]

    def gateway(self, name: str = "g0") -> Service:
        return self.services[name]

    def count(self, event: str, name: str = "g0") -> float:
        """How often a gateway's core has met an event."""
        return self.gateway(name).metrics().get(f'pipespec_gateway_events_total{{event="{event}"}}', 0.0)

    def num_sessions(self, rank: int) -> int:
        """Sessions that the replicas of a stage hold together; a replica that does not answer counts as one."""
        return sum(int(s.metrics().get("pipespec_stage_sessions", 1.0)) for s in self.stages(rank))

    async def whole(self) -> None:
        """Wait until everything that runs is ready, gateways know all replicas, and no session is left."""
        for service in self.services.values():
            if service.runs:
                await service.until_ready()
        await until(self._is_whole)

    def _is_whole(self) -> bool:
        ranks = range(len(self.pipeline.stages))
        wanted = {
            f'pipespec_gateway_usable_replicas{{stage="{rank}"}}': float(len(self.stages(rank)))
            for rank in ranks
        }
        for name in self.gateways:
            if self.gateway(name).runs:
                metrics = self.gateway(name).metrics()
                if any(metrics.get(key) != value for key, value in wanted.items()):
                    return False
        return all(self.num_sessions(rank) == 0 for rank in ranks)

    def tracebacks(self) -> list[str]:
        """Names of processes that logged an error of their own."""
        return [name for name, s in self.services.items() if s.spec.log.exists() and "Traceback" in s.said()]


@contextmanager
def started(fleet: Fleet, *, except_for: tuple[str, ...] = ()) -> Iterator[Fleet]:
    """All processes started (not yet ready); none is left afterwards, and none has logged an error of its own."""
    try:
        for name, service in fleet.services.items():
            if name not in except_for:
                service.start()
        yield fleet
        assert fleet.tracebacks() == []
    finally:
        for service in fleet.services.values():
            service.dispose()
