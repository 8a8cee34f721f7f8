"""What listens while a pipeline runs, asked of the system itself, is exactly what docs/keys.md says."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
import yaml

from e2e.detached import Detached, detached
from pipespec.bus.key_folder import KeyFolder

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(240)]
ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "examples" / "emulated-two-stages.yaml"

Address = tuple[str, int]


@pytest.fixture(params=["in plain", "with keys"])
def running(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Detached]:
    document = yaml.safe_load(EXAMPLE.read_text())
    document["brokers"] = [{}, {}]
    document["gateway"] = {"http_port": 0, "grpc_port": 0, "zmq_port": 0}
    if request.param == "with keys":
        keys = KeyFolder(tmp_path / "keys")
        keys.create("fleet", num_servers=2)
        document["bus"] = {"server_keys": str(keys.server), "client_keys": str(keys.client("fleet"))}
        document["gateway"]["zmq_keys"] = str(keys.server)
    with detached(document, tmp_path) as up:
        yield up


def _plain(host: str) -> str:
    """gRPC binds an IPv4 address through an IPv6 socket."""
    return host.removeprefix("::ffff:")


def by_ss(pids: set[int]) -> set[Address]:
    """TCP and UDP sockets that listen, by iproute2's own tool."""
    lines = subprocess.run(
        ["ss", "--no-header", "--listening", "--numeric", "--tcp", "--udp", "--processes"],  # noqa: S607
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    ).stdout.splitlines()
    found = set()
    for line in lines:
        if pids & {int(pid) for pid in re.findall(r"pid=(\d+)", line)}:
            host, _, port = line.split()[4].rpartition(":")
            found.add((_plain(host.strip("[]")), int(port)))
    return found


def by_psutil(pids: set[int]) -> set[Address]:
    """The same where there is no ``ss``."""
    return {
        (_plain(socket.laddr.ip), socket.laddr.port)
        for pid in pids
        for socket in psutil.Process(pid).net_connections("inet")
        if socket.status in (psutil.CONN_LISTEN, psutil.CONN_NONE)
    }


def documented(running: Detached) -> set[Address]:
    """What the table of ports in the docs comes to for this pipeline."""
    _, _, section = (ROOT / "docs" / "keys.md").read_text(encoding="utf-8").partition("## Ports")
    settings = re.findall(r"^\| `([a-z_.]+)` \|", section, flags=re.MULTILINE)
    assert len(settings) >= 8
    pipeline = running.pipeline
    found: set[Address] = set()
    for setting in settings:
        part, _, port = setting.rpartition(".")
        if part == "brokers":
            found |= {(broker.bind or broker.host, getattr(broker, port)) for broker in pipeline.brokers}
        elif part == "gateway":
            found.add((pipeline.gateway.host, getattr(pipeline.gateway, port)))
        else:
            assert setting == "stage_metrics_port"
            found |= {(pipeline.stage_host, stage_port) for stage_port in running.stage_ports}
    return found


def test_what_listens_is_what_is_documented_and_on_loopback(running: Detached) -> None:
    processes = {process.pid for process in running.processes()}
    pids = processes | {
        child.pid for pid in processes for child in psutil.Process(pid).children(recursive=True)
    }
    listening = by_ss(pids) if shutil.which("ss") else by_psutil(pids)
    assert listening == documented(running)
    assert {host for host, _ in listening} == {"127.0.0.1"}
