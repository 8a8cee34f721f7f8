"""Further gateways of a pipeline that runs detached: processes of their own, on ports of their own."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import httpx
import yaml

from e2e.detached import Detached
from e2e.local_chain import free_port
from pipespec.ops.pipeline import GatewaySettings


@dataclass(frozen=True)
class Gateway:
    """A gateway process and where it listens."""

    settings: GatewaySettings
    process: subprocess.Popen[bytes] | None = None

    @property
    def http(self) -> str:
        """Base URL."""
        return f"http://127.0.0.1:{self.settings.http_port}"

    def port(self, scheme: str) -> int:
        """Of ``grpc`` or ``zmq``."""
        return {"grpc": self.settings.grpc_port, "zmq": self.settings.zmq_port}[scheme]

    def metric(self, name: str) -> int:
        """A metric without labels."""
        lines = httpx.get(f"http://127.0.0.1:{self.settings.metrics_port}/metrics").text.splitlines()
        (line,) = [line for line in lines if line.startswith(f"{name} ")]
        return int(float(line.split()[1]))


@contextmanager
def second_gateway(running: Detached, replica: str) -> Iterator[Gateway]:
    """One more gateway, ready; gone when the block ends."""
    ports = {name: free_port() for name in ("http_port", "grpc_port", "zmq_port", "metrics_port")}
    settings = running.pipeline.gateway.model_copy(update=ports)
    pipeline = running.pipeline.model_copy(update={"gateway": settings})
    file = running.folder / f"{replica}.yaml"
    file.write_text(yaml.safe_dump(pipeline.model_dump(mode="json", exclude_none=True)))
    command = [sys.executable, "-m", "pipespec.cli", "serve", "gateway", "--pipeline", str(file)]
    with (running.folder / "logs" / f"{replica}.log").open("wb") as log:
        ends_with = ["--parent", str(os.getpid())]
        process = subprocess.Popen(
            [*command, "--replica", replica, *ends_with], stdout=log, stderr=subprocess.STDOUT
        )
    gateway = Gateway(settings, process)
    try:
        until_s = time.monotonic() + 60
        while not _is_ready(gateway):
            assert time.monotonic() < until_s
            assert process.poll() is None
            time.sleep(0.1)
        yield gateway
    finally:
        process.terminate()
        process.wait(60)


def _is_ready(gateway: Gateway) -> bool:
    try:
        return httpx.get(f"{gateway.http}/readyz").status_code == httpx.codes.OK
    except httpx.TransportError:
        return False
