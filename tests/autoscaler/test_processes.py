"""Autoscalers as processes beside a running pipeline, with an API server that has StatefulSets to scale.

The pipeline itself does not grow: nobody makes pods of what is asked for.
"""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from e2e.local_chain import eventually, free_port
from kube.api_server import NAMESPACE, ApiServer, running_api, stateful_set
from kube.kubeconfig import kubeconfig
from pipespec.cli.local.temporary import temporary_pipeline
from pipespec.client import AsyncClient
from pipespec.ops.pipeline import Pipeline, parse_pipeline

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(240)]
STATEFUL_SETS, LEASES = "apps/v1/statefulsets", "coordination.k8s.io/v1/leases"
WORKLOADS = ("chain-draft", "chain-target")
NUM_STREAMS = 16
PIPELINE = {
    "name": "chain",
    "stages": [
        {
            "kind": "emulated",
            "lookahead": 4,
            "emulation": {"latency_ms": {1: 4, 64: 40}, "agreement": 0.8},
            "scaling": {"max_replicas": 8},
        },
        {
            "kind": "emulated",
            "emulation": {"latency_ms": {1: 20, 64: 200}},
            "scaling": {"max_replicas": 8},
        },
    ],
    "timers": {"heartbeat_ms": 50, "dead_ms": 1000},
}


@dataclass
class Autoscaler:
    """One process."""

    process: subprocess.Popen[str]
    port: int
    log: Path

    def metrics(self) -> dict[str, float]:
        """All samples by name with labels; none while it does not answer."""
        try:
            text = httpx.get(f"http://127.0.0.1:{self.port}/metrics", timeout=10).text
        except httpx.TransportError:
            return {}
        lines = (line.rpartition(" ") for line in text.splitlines() if not line.startswith("#"))
        return {name: float(value) for name, _, value in lines}

    def probe(self, path: str) -> int:
        """Status of a probe; 0 while it does not answer."""
        try:
            return httpx.get(f"http://127.0.0.1:{self.port}{path}", timeout=10).status_code
        except httpx.TransportError:
            return 0

    @property
    def leads(self) -> bool:
        return self.metrics().get("pipespec_autoscaler_leader") == 1.0


@dataclass
class Scene:
    """A pipeline that runs, an API server, and autoscalers."""

    running: Pipeline
    api: ApiServer
    folder: Path
    started: list[Autoscaler] = field(default_factory=list)

    def start(self, name: str, *, in_cluster: bool = True, **settings: Any) -> Autoscaler:
        """Start an autoscaler."""
        port = free_port()
        cluster = {"namespace": NAMESPACE, "workloads": list(WORKLOADS), "lease": "scaler"}
        document = self.running.model_dump(mode="json") | {
            "kubernetes": cluster if in_cluster else None,
            "autoscaler": {
                "goal_ms": 30,
                "interval_s": 0.5,
                "down_wait_s": 1.0,
                "surge_wait_s": 1.0,
                "metrics_port": port,
            }
            | settings,
        }
        file, log = self.folder / f"{name}.yaml", self.folder / f"{name}.log"
        file.write_text(yaml.safe_dump(document))
        command = [sys.executable, "-m", "pipespec.cli", "serve", "autoscaler", "--pipeline", str(file)]
        env = {**os.environ, "KUBECONFIG": str(self.folder / "kubeconfig")}
        with log.open("w") as out:
            process = subprocess.Popen([*command, "--replica", name], env=env, stderr=out, text=True)
        self.started.append(Autoscaler(process, port, log))
        return self.started[-1]

    def replicas(self) -> tuple[int, ...]:
        return tuple(int(self.api.stored(STATEFUL_SETS, name)["spec"]["replicas"]) for name in WORKLOADS)

    @asynccontextmanager
    async def load(self) -> AsyncIterator[None]:
        """More streams than one replica of each stage can serve as fast as wanted, until the block ends."""
        async with AsyncClient(f"grpc://127.0.0.1:{self.running.gateway.grpc_port}") as client:

            async def stream(number: int) -> None:
                while True:
                    await client.generate(f"stream {number}", max_tokens=400, temperature=0)

            streams = [asyncio.create_task(stream(number)) for number in range(NUM_STREAMS)]
            try:
                yield
            finally:
                for task in streams:
                    task.cancel()
                await asyncio.gather(*streams, return_exceptions=True)


@pytest.fixture(scope="module")
def running() -> Iterator[Pipeline]:
    """The pipeline of all tests."""
    with temporary_pipeline(parse_pipeline(PIPELINE, source="test")) as running:
        yield running


@pytest.fixture
def scene(running: Pipeline, tmp_path: Path) -> Iterator[Scene]:
    """One replica of each stage, and no autoscaler yet."""
    with running_api() as (api, url):
        for name in WORKLOADS:
            api.store(STATEFUL_SETS, name, stateful_set(1))
        (tmp_path / "kubeconfig").write_text(yaml.safe_dump(kubeconfig(url)))
        scene = Scene(running, api, tmp_path)
        try:
            yield scene
        finally:
            for one in scene.started:
                one.process.kill()
                one.process.wait()
    for one in scene.started:
        assert "Traceback" not in one.log.read_text()


async def until(condition: Callable[[], bool]) -> None:
    """Wait for other processes."""
    await eventually(condition, timeout_s=60)


async def test_replicas_follow_the_load_up_and_down(scene: Scene) -> None:
    scaler = scene.start("a0")
    await until(lambda: scaler.probe("/readyz") == 200)
    assert scaler.probe("/livez") == 200
    async with scene.load():
        await until(lambda: scene.replicas()[1] > 1)
        await until(lambda: scaler.metrics().get("pipespec_autoscaler_sessions") == NUM_STREAMS)
        peak = scene.replicas()[1]
    # The load is a mean over a minute, and goes as slowly.
    await eventually(lambda: scene.replicas()[1] < peak, timeout_s=150)
    metrics = scaler.metrics()
    assert metrics['pipespec_autoscaler_decisions_total{outcome="more"}'] >= 1
    assert metrics['pipespec_autoscaler_decisions_total{outcome="fewer"}'] >= 1
    assert "autoscaler.decided" in scaler.log.read_text()


async def test_one_of_two_writes_and_the_other_takes_over_when_it_freezes(scene: Scene) -> None:
    first = scene.start("a0")
    await until(lambda: first.leads)
    second = scene.start("a1")
    await until(lambda: second.probe("/readyz") == 200)
    async with scene.load():
        await until(lambda: scene.replicas()[1] > 1)
        assert not second.leads
        assert "scale.set" not in second.log.read_text()
        first.process.send_signal(signal.SIGSTOP)
        for name in WORKLOADS:
            scene.api.store(STATEFUL_SETS, name, stateful_set(1))
        await until(lambda: second.leads)
        await until(lambda: scene.replicas()[1] > 1)
        said = first.log.read_text()
        first.process.send_signal(signal.SIGCONT)
        await until(lambda: "lease.lost" in first.log.read_text())
        assert not first.leads
        assert second.leads
    assert "scale.set" in second.log.read_text()
    assert "scale.set" not in first.log.read_text().removeprefix(said)


async def test_when_the_leader_ends_another_leads_at_once(scene: Scene) -> None:
    first = scene.start("a0")
    await until(lambda: first.leads)
    second = scene.start("a1")
    await until(lambda: second.probe("/readyz") == 200)
    first.process.send_signal(signal.SIGTERM)
    assert await asyncio.to_thread(first.process.wait, 30) == 0
    assert scene.api.stored(LEASES, "scaler")["spec"]["holderIdentity"].partition("_")[0] != "a0"
    await until(lambda: second.leads)


async def test_whatever_the_api_does_the_wish_comes_about(scene: Scene) -> None:
    for answer in (409, 410, 429, 500, "reset", "hang"):
        scene.api.fail("PATCH", "/statefulsets/", answer)
        scene.api.fail("GET", "/statefulsets/", answer)
    scaler = scene.start("a0")
    async with scene.load():
        await until(lambda: scene.replicas()[1] > 1)
    codes = ("409", "410", "429", "500", "unreachable", "timeout")
    names = [f'pipespec_autoscaler_api_failures_total{{call="scale",code="{code}"}}' for code in codes]
    metrics = scaler.metrics()
    assert [name for name in names if metrics.get(name, 0.0) < 1] == []


@pytest.mark.parametrize("in_cluster", [True, False])
async def test_a_dry_run_says_what_it_would_do_and_does_nothing(scene: Scene, in_cluster: bool) -> None:
    scaler = scene.start("a0", in_cluster=in_cluster, dry_run=True)
    async with scene.load():
        await until(lambda: "autoscaler.decided" in scaler.log.read_text())
    assert scene.replicas() == (1, 1)
    assert scene.api.num_calls("PATCH", "/statefulsets/") == 0
    assert scene.api.num_calls("POST", "/leases") == 0
