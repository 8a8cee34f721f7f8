"""From a pipeline to processes: ports, commands, environments."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from pipespec.cli.local.layout import lay_out, process_specs, url_host
from pipespec.cli.local.ports import PortInUse
from pipespec.ops.pipeline import Pipeline, parse_pipeline

FREE = {"http_port": 0, "grpc_port": 0, "zmq_port": 0}


def pipeline(**settings: object) -> Pipeline:
    stages = [{"kind": "suffix"}, {"model": "a/b", "replicas": 2, "threads": 3}]
    return parse_pipeline({"stages": stages, "gateway": FREE, **settings}, source="test")


def test_every_zero_becomes_another_free_port() -> None:
    layout = lay_out(pipeline(brokers=[{}, {}]))
    gateway, brokers = layout.pipeline.gateway, layout.pipeline.brokers
    ports = [gateway.http_port, gateway.grpc_port, gateway.zmq_port, gateway.metrics_port]
    ports += [port for b in brokers for port in (b.publish_port, b.subscribe_port, b.metrics_port)]
    ports += [port for row in layout.stage_ports for port in row]
    assert 0 not in ports
    assert len(set(ports)) == len(ports) == 13


def test_stage_metrics_ports_count_up_from_the_first() -> None:
    with socket.create_server(("127.0.0.1", 0)) as found:
        first = found.getsockname()[1]
    try:
        layout = lay_out(pipeline(stage_metrics_port=first))
    except PortInUse:
        pytest.skip("a neighbour of the free port is taken")
    assert layout.stage_ports == ((first,), (first + 1, first + 2))


def test_a_port_in_use_is_said_with_the_setting_and_the_option_that_change_it() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(PortInUse, match=f"port {port} .*--grpc-port or gateway.grpc_port"):
            lay_out(pipeline(gateway={**FREE, "grpc_port": port}))


def test_reflection_is_on_and_logs_are_for_people() -> None:
    layout = lay_out(pipeline())
    assert layout.pipeline.gateway.grpc_reflection
    assert layout.pipeline.log.format == "console"
    assert lay_out(pipeline(log={"format": "json"})).pipeline.log.format == "json"


def test_brokers_start_first_and_the_gateway_last() -> None:
    specs = process_specs(lay_out(pipeline()), file=Path("p.yaml"), logs=Path("logs"))
    assert [spec.name for spec in specs] == ["broker-0", "stage-0-r0", "stage-1-r0", "stage-1-r1", "gateway"]
    assert specs[1].log == Path("logs/stage-0-r0.log")


def test_each_process_gets_its_threads_and_its_parent() -> None:
    layout = lay_out(pipeline())
    specs = {spec.name: spec for spec in process_specs(layout, file=Path("p.yaml"), logs=Path("logs"))}
    assert specs["stage-1-r0"].env["OMP_NUM_THREADS"] == "3"
    for name in ("broker-0", "stage-0-r0", "gateway"):
        assert specs[name].env["MKL_NUM_THREADS"] == "1"
        assert specs[name].env["TOKENIZERS_PARALLELISM"] == "false"
    replica = specs["stage-1-r1"]
    assert replica.argv[-2:] == ("--parent", str(os.getpid()))
    assert "--rank 1 --replica r1 --metrics-port" in " ".join(replica.argv)
    assert replica.ready_url == f"http://127.0.0.1:{layout.stage_ports[1][1]}/readyz"


@pytest.mark.parametrize(
    ("bound", "written"),
    [
        ("0.0.0.0", "127.0.0.1"),  # noqa: S104 - nothing is bound
        ("::", "[::1]"),
        ("::1", "[::1]"),
        ("10.0.0.7", "10.0.0.7"),
    ],
)
def test_a_wildcard_address_is_reached_through_loopback(bound: str, written: str) -> None:
    assert url_host(bound) == written


def test_files_of_keys_and_certificates_are_found_from_everywhere() -> None:
    files = {"api_keys": "keys.yaml", "tls_certificate": "/etc/tls.crt", "tls_key": "tls.key"}
    files["zmq_keys"] = "edge/server"
    gateway = lay_out(pipeline(gateway={**FREE, **files})).pipeline.gateway
    assert gateway.api_keys == Path.cwd() / "keys.yaml"
    assert gateway.tls_certificate == Path("/etc/tls.crt")
    assert gateway.tls_key == Path.cwd() / "tls.key"
    assert gateway.zmq_keys == Path.cwd() / "edge/server"
