"""A gateway that watches EndpointSlices: a pod that goes away gets no session although it still beats and says nothing."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
import yaml

from e2e.local_chain import eventually, free_port
from kube.api_server import NAMESPACE, ApiServer, running_api
from kube.kubeconfig import kubeconfig
from kube.slices import RESOURCE, endpoint_slice
from pipespec.cli.local.temporary import temporary_pipeline
from pipespec.client import AsyncClient
from pipespec.ops.pipeline import Pipeline, parse_pipeline

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(180)]
PIPELINE = {
    "name": "chain",
    "stages": [{"kind": "emulated", "replicas": 2, "emulation": {"latency_ms": {1: 5}}}],
    "timers": {"heartbeat_ms": 50},
}


@pytest.fixture
def api(tmp_path: Path) -> Iterator[ApiServer]:
    """A cluster in which both pods live."""
    with running_api() as (api, url):
        api.store(RESOURCE, "s", endpoint_slice("target", r0=False, r1=False))
        (tmp_path / "kubeconfig").write_text(yaml.safe_dump(kubeconfig(url)))
        yield api


@pytest.fixture
def running() -> Iterator[Pipeline]:
    """Two replicas, and a gateway that knows nothing of the cluster."""
    with temporary_pipeline(parse_pipeline(PIPELINE, source="test")) as running:
        yield running


@pytest.fixture
def gateway(running: Pipeline, api: ApiServer, tmp_path: Path) -> Iterator[Pipeline]:
    """A second gateway, which does."""
    ports = {name: free_port() for name in ("http_port", "grpc_port", "zmq_port", "metrics_port")}
    cluster = {"namespace": NAMESPACE, "workloads": ["target"], "watch": True}
    document = running.model_dump(mode="json") | {"kubernetes": cluster, "gateway": ports}
    (tmp_path / "gateway.yaml").write_text(yaml.safe_dump(document))
    command = [sys.executable, "-m", "pipespec.cli", "serve", "gateway", "--replica", "g1"]
    process = subprocess.Popen(
        [*command, "--pipeline", str(tmp_path / "gateway.yaml")],
        env={**os.environ, "KUBECONFIG": str(tmp_path / "kubeconfig")},
    )
    try:
        yield parse_pipeline(document, source="test")
    finally:
        process.terminate()
        assert process.wait(timeout=30) == 0


def metrics(gateway: Pipeline) -> str:
    """Of the gateway; nothing while it does not answer."""
    try:
        return httpx.get(f"http://127.0.0.1:{gateway.gateway.metrics_port}/metrics", timeout=10).text
    except httpx.TransportError:
        return ""


async def test_a_pod_that_the_cluster_ends_gets_no_session_and_one_that_comes_back_does(
    gateway: Pipeline, api: ApiServer
) -> None:
    def usable(number: int) -> bool:
        return f'pipespec_gateway_usable_replicas{{stage="0"}} {number}.0' in metrics(gateway)

    await eventually(lambda: usable(2), timeout_s=60)
    assert "pipespec_kube_watch_age_seconds" in metrics(gateway)
    api.store(RESOURCE, "s", endpoint_slice("target", r0=True, r1=False))
    await eventually(lambda: usable(1), timeout_s=90)
    async with AsyncClient(f"grpc://127.0.0.1:{gateway.gateway.grpc_port}") as client:
        answer = await client.generate("hello", max_tokens=5, temperature=0)
    assert len(answer.token_ids) == 5
    api.store(RESOURCE, "s", endpoint_slice("target", r0=False, r1=False))
    await eventually(lambda: usable(2), timeout_s=90)
