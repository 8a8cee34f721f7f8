"""The processes of a soak: emulated stages, a gateway, and the faulty broker between them; who is ended now and then.

The product's own supervisor starts again what dies.
"""

from __future__ import annotations

import signal
import sys
import tempfile
import urllib.request
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random
from typing import Any

import psutil
from rich.console import Console

from pipespec.cli.local.layout import Layout, lay_out, process_specs, stop_grace_s
from pipespec.cli.local.run_folder import RunFolder
from pipespec.cli.supervisor.restarts import RestartPolicy
from pipespec.cli.supervisor.supervisor import Supervisor
from pipespec.cli.supervisor.thread import supervised
from pipespec.ops.pipeline import Pipeline, parse_pipeline

BROKER = Path(__file__).parent / "faulty_broker.py"
REPLICAS = 2
_START_S = 120.0
_direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def pipeline_for(sessions: int) -> Pipeline:
    """Two replicas of three stages, each of which could hold all sessions while its neighbour starts again."""
    stage = {"kind": "emulated", "replicas": REPLICAS, "max_sessions": sessions + 16, "max_batch": 256}
    stages = [
        {**stage, "lookahead": 8, "emulation": {"latency_ms": {1: 30}, "agreement": 0.7}},
        {**stage, "lookahead": 8, "emulation": {"latency_ms": {1: 80}, "agreement": 0.8}},
        {**stage, "emulation": {"latency_ms": {1: 250, 512: 300}}},
    ]
    document = {
        "name": "soak",
        "stages": stages,
        "gateway": {
            "http_port": 0,
            "grpc_port": 0,
            "zmq_port": 0,
            "max_sessions": sessions + 8,
            "drain_timeout_s": 0,
        },
        "timers": {"heartbeat_ms": 200, "dead_ms": 4000, "stall_ms": 10_000},
        "log": {"level": "warning"},
    }
    return parse_pipeline(document, source="the soak's pipeline")


@dataclass(frozen=True, slots=True)
class Sample:
    """One process at one moment."""

    rss_mib: float
    fds: int
    sessions: int | None
    """None where a process holds none, or does not answer while it starts."""


class Fleet:
    """The processes, while they run.

    Attributes:
        ended: how stage replicas were ended, and how often.
    """

    def __init__(self, layout: Layout, random: Random) -> None:
        self.pipeline = layout.pipeline
        self.ended: Counter[str] = Counter()
        self._random = random
        self._ports = {
            f"stage-{rank}-r{n}": port
            for rank, ports in enumerate(layout.stage_ports)
            for n, port in enumerate(ports)
        } | {"gateway": layout.pipeline.gateway.metrics_port}

    def sample(self) -> dict[str, Sample]:
        """Every process by its name."""
        samples = {}
        for name, process in self._processes().items():
            try:
                sessions = self._sessions(name)
                samples[name] = Sample(
                    round(process.memory_info().rss / 2**20, 1), process.num_fds(), sessions
                )
            except (psutil.Error, OSError):
                continue  # it ends or starts just now
        return samples

    def is_quiet(self) -> bool:
        """Whether nobody holds a session."""
        try:
            return all(self._sessions(name) == 0 for name in self._ports)
        except OSError:
            return False

    def end_one(self) -> None:
        """End a stage replica, politely or not, if all are well; they are started again."""
        if not all(self._is_ready(port) for port in self._ports.values()):
            return
        stages = {name: p for name, p in self._processes().items() if name.startswith("stage")}
        name = self._random.choice(sorted(stages))
        number = self._random.choice((signal.SIGKILL, signal.SIGTERM))
        stages[name].send_signal(number)
        self.ended[f"{name} {number.name}"] += 1

    def faults(self) -> dict[str, int]:
        """What the broker has done, by kind; ``messages`` is how many it saw."""
        text = _get(f"http://127.0.0.1:{self.pipeline.brokers[0].metrics_port}/metrics")
        lines = [line.split() for line in text.splitlines() if line.startswith("soak_")]
        values = {name: int(float(value)) for name, value in lines if "_created" not in name}
        return {
            name.removeprefix("soak_")
            .removesuffix("_total")
            .replace('faults_total{kind="', "")
            .rstrip('"}'): value
            for name, value in values.items()
        }

    def _processes(self) -> dict[str, psutil.Process]:
        found = {}
        for child in psutil.Process().children(recursive=True):
            try:
                line = child.cmdline()
            except psutil.Error:
                continue
            name = _name(line)
            if name is not None:
                found[name] = child
        return found

    def _sessions(self, name: str) -> int | None:
        port = self._ports.get(name)
        if port is None:
            return None
        role = name.split("-", maxsplit=1)[0]
        text = _get(f"http://127.0.0.1:{port}/metrics")
        (value,) = [
            line.split()[1] for line in text.splitlines() if line.startswith(f"pipespec_{role}_sessions ")
        ]
        return int(float(value))

    def _is_ready(self, port: int) -> bool:
        try:
            _get(f"http://127.0.0.1:{port}/readyz")
        except OSError:
            return False
        return True


def _name(line: list[str]) -> str | None:
    if "serve" in line and "stage" in line:
        return f"stage-{line[line.index('--rank') + 1]}-{line[line.index('--replica') + 1]}"
    if "serve" in line and "gateway" in line:
        return "gateway"
    return "broker" if str(BROKER) in line else None


def _get(url: str) -> str:
    with _direct.open(url, timeout=5) as response:
        return str(response.read().decode())


@contextmanager
def running(sessions: int, *, faults: float, seed: int, console: Console) -> Iterator[Fleet]:
    """The fleet, ready; nothing is left of it afterwards."""
    with tempfile.TemporaryDirectory(prefix="pipespec-soak-") as path:
        folder = RunFolder(Path(path))
        layout = lay_out(pipeline_for(sessions))
        folder.write(layout, ready=False)
        specs: list[Any] = process_specs(layout, file=folder.pipeline_file, logs=folder.logs)
        options = ("--pipeline", str(folder.pipeline_file), "--share", str(faults), "--seed", str(seed))
        specs[0] = replace(specs[0], argv=(sys.executable, str(BROKER), *options))
        policy = RestartPolicy(first_wait_s=0.2, longest_wait_s=1.0, max_quick_deaths=10**6)
        supervisor = Supervisor(specs, policy=policy, on_note=lambda _: None)
        with supervised(supervisor, grace_s=stop_grace_s(layout.pipeline)) as thread:
            with console.status("starting the processes"):
                thread.wait_until_ready(_START_S, on_waiting=lambda _: None)
            yield Fleet(layout, Random(seed))
