"""From a pipeline to the processes that make it on this machine: names, commands, environments, ports."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from pipespec.cli.local.ports import PortPicker
from pipespec.cli.supervisor.spec import ProcessSpec
from pipespec.ops.pipeline import BrokerSettings, GatewaySettings, Pipeline

GATEWAY_REPLICA = "g0"
_THREAD_VARIABLES = (
    "OMP_NUM_THREADS",
    "MKL_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "NUMEXPR_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
    "RAYON_NUM_THREADS",
)


@dataclass(frozen=True, slots=True)
class Layout:
    """A pipeline without open questions.

    Attributes:
        pipeline: every port of brokers and gateway is set.
        stage_ports: metrics port of replica n of stage r, at ``[r][n]``.
    """

    pipeline: Pipeline
    stage_ports: tuple[tuple[int, ...], ...]


def lay_out(pipeline: Pipeline) -> Layout:
    """Settle what is open: free ports for zeros, reflection on, logs in a form for people.

    Raises:
        PortInUse: a port that is set is taken.
    """
    with PortPicker() as ports:
        settled = pipeline.model_copy(
            update={
                "brokers": tuple(
                    _settle_broker(broker, index, ports) for index, broker in enumerate(pipeline.brokers)
                ),
                "gateway": _settle_gateway(pipeline.gateway, ports),
                "bus": pipeline.bus.model_copy(
                    update={
                        "server_keys": _absolute(pipeline.bus.server_keys),
                        "client_keys": _absolute(pipeline.bus.client_keys),
                    }
                ),
                "log": pipeline.log.model_copy(
                    update={"format": "console" if pipeline.log.format == "auto" else pipeline.log.format}
                ),
            }
        )
        return Layout(settled, tuple(_stage_ports(pipeline, ports)))


def _settle_broker(broker: BrokerSettings, index: int, ports: PortPicker) -> BrokerSettings:
    names = ("publish_port", "subscribe_port", "metrics_port")
    return broker.model_copy(
        update={
            name: ports.take(broker.bind or broker.host, getattr(broker, name), f"brokers.{index}.{name}")
            for name in names
        }
    )


def _settle_gateway(gateway: GatewaySettings, ports: PortPicker) -> GatewaySettings:
    options = {
        "http_port": "--http-port",
        "grpc_port": "--grpc-port",
        "zmq_port": "--zmq-port",
        "metrics_port": "",
    }
    settled = {
        name: ports.take(gateway.host, getattr(gateway, name), f"gateway.{name}", option)
        for name, option in options.items()
    }
    files = {name: getattr(gateway, name) for name in ("api_keys", "tls_certificate", "tls_key", "zmq_keys")}
    absolute = {name: _absolute(path) for name, path in files.items()}
    return gateway.model_copy(update={**settled, **absolute, "grpc_reflection": True})


def _absolute(path: Path | None) -> Path | None:
    """As seen from anywhere: others read the settled file, from other folders."""
    return None if path is None else path.absolute()


def _stage_ports(pipeline: Pipeline, ports: PortPicker) -> Iterator[tuple[int, ...]]:
    port = pipeline.stage_metrics_port
    for stage in pipeline.stages:
        taken = []
        for _ in range(stage.replicas):
            taken.append(ports.take(pipeline.stage_host, port, "stage_metrics_port"))
            port += bool(port)
        yield tuple(taken)


def stop_grace_s(pipeline: Pipeline) -> float:
    """Seconds that a supervisor gives its processes to end: the longest drain, and some for stopping itself."""
    gateway = pipeline.gateway.drain_delay_s + pipeline.gateway.drain_timeout_s
    return max(gateway, *(stage.drain_timeout_s for stage in pipeline.stages)) + 10.0


def process_specs(layout: Layout, *, file: Path, logs: Path) -> list[ProcessSpec]:
    """The processes in the order of their start: brokers, stages, gateway.

    Args:
        layout: of the pipeline in ``file``.
        file: what the services read.
        logs: folder of the log files.
    """
    pipeline = layout.pipeline

    def spec(name: str, role: str, health: tuple[str, int], threads: int, *arguments: str) -> ProcessSpec:
        command = (sys.executable, "-m", "pipespec.cli", "serve", role, "--pipeline", str(file))
        probes = f"http://{url_host(health[0])}:{health[1]}"
        return ProcessSpec(
            name=name,
            role=role,
            argv=(*command, *arguments, "--parent", str(os.getpid())),
            env=_environment(threads),
            log=logs / f"{name}.log",
            ready_url=f"{probes}/readyz",
            live_url=f"{probes}/livez",
        )

    specs = [
        spec(f"broker-{n}", "broker", (broker.bind or broker.host, broker.metrics_port), 1, "--index", str(n))
        for n, broker in enumerate(pipeline.brokers)
    ]
    for rank, (stage, ports) in enumerate(zip(pipeline.stages, layout.stage_ports, strict=True)):
        for n, port in enumerate(ports):
            arguments = ("--rank", str(rank), "--replica", f"r{n}", "--metrics-port", str(port))
            health = (pipeline.stage_host, port)
            specs.append(spec(f"stage-{rank}-r{n}", "stage", health, stage.threads, *arguments))
    gateway = (pipeline.gateway.host, pipeline.gateway.metrics_port)
    specs.append(spec("gateway", "gateway", gateway, 1, "--replica", GATEWAY_REPLICA))
    return specs


def url_host(host: str) -> str:
    """How a client on this machine writes the address that a service binds."""
    here = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 - nothing is bound here
    return f"[{here}]" if ":" in here else here


def _environment(threads: int) -> dict[str, str]:
    """This process's, with compute threads bounded before any library reads the variables."""
    return {
        **os.environ,
        **dict.fromkeys(_THREAD_VARIABLES, str(threads)),
        "TOKENIZERS_PARALLELISM": "false",
        "PYTHONUNBUFFERED": "1",
    }
