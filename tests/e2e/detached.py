"""A pipeline as a user runs it: ``pipespec up --detach``, its processes, its addresses, ``pipespec down``."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import yaml

from pipespec.ops.pipeline import Pipeline, load_pipeline


@dataclass(frozen=True)
class Detached:
    """A pipeline that runs."""

    pipeline: Pipeline
    folder: Path

    @property
    def http(self) -> str:
        """Base URL of the OpenAI API."""
        return f"http://127.0.0.1:{self.pipeline.gateway.http_port}/v1"

    def url(self, scheme: str) -> str:
        """Address for the client library."""
        port = {"grpc": self.pipeline.gateway.grpc_port, "zmq": self.pipeline.gateway.zmq_port}[scheme]
        return f"{scheme}://127.0.0.1:{port}"

    @property
    def stage_ports(self) -> list[int]:
        """Metrics ports of all stage replicas."""
        state = json.loads((self.folder / "state.json").read_text())
        return [port for ports in state["stage_ports"] for port in ports]

    def processes(self) -> list[psutil.Process]:
        """Every process that serves this pipeline."""
        everyone = psutil.process_iter(["cmdline"])
        return [p for p in everyone if str(self.folder) in " ".join(p.info["cmdline"] or [])]

    def stage(self, rank: int, replica: str = "r0") -> psutil.Process:
        """The process of a stage replica."""
        named = f"--rank {rank} --replica {replica} "
        (process,) = [p for p in self.processes() if named in " ".join(p.info["cmdline"])]
        return process


def _cli(*arguments: str, env: dict[str, str], timeout_s: float = 200) -> subprocess.CompletedProcess[str]:
    """Run a pipespec command to its end."""
    return subprocess.run(
        [sys.executable, "-m", "pipespec.cli", *arguments],
        env=env,
        capture_output=True,
        text=True,
        timeout=timeout_s,
        check=False,
    )


@contextmanager
def detached(document: dict[str, Any], root: Path) -> Iterator[Detached]:
    """Up while the block runs; afterwards nothing is left. ``root`` takes the file and the cache."""
    file = root / "pipeline.yaml"
    file.write_text(yaml.safe_dump(document))
    env = {**os.environ, "PIPESPEC_CACHE": str(root / "cache")}
    started = _cli("up", str(file), "--detach", env=env)
    assert started.returncode == 0, started.stderr
    (resolved,) = (root / "cache").rglob("pipeline.yaml")
    up = Detached(load_pipeline(resolved), resolved.parent)
    try:
        yield up
    finally:
        stopped = _cli("down", document["name"], env=env)
        assert stopped.returncode == 0, stopped.stderr
        assert up.processes() == []
