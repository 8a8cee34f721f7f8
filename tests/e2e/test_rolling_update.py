"""A rolling update of every stage while streams run: replica by replica, as a StatefulSet does it. No stream is lost, none is wrong."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import psutil
import pytest
import yaml

from e2e.detached import Detached, detached
from pipespec.client import AsyncClient
from pipespec.emulation.chain import language_of
from pipespec.emulation.vocabulary import byte_tokenizer

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(240)]
EXAMPLE = Path(__file__).parents[2] / "examples" / "emulated-two-stages.yaml"
NUM_CLIENTS = 6
NUM_TOKENS = 60


@pytest.fixture
def running(tmp_path: Path) -> Iterator[Detached]:
    """Two replicas of each stage, and drains long enough for what they hold."""
    document = yaml.safe_load(EXAMPLE.read_text())
    document["stages"] = [stage | {"drain_timeout_s": 30.0} for stage in document["stages"]]
    document["gateway"] = {"http_port": 0, "grpc_port": 0, "zmq_port": 0}
    document["timers"] = {"heartbeat_ms": 50, "dead_ms": 500}
    with detached(document, tmp_path) as up:
        yield up


async def _replace(running: Detached, rank: int, replica: str, port: int) -> None:
    """End a replica as Kubernetes does; return when its successor under the same name is ready."""
    old = running.stage(rank, replica)
    old.terminate()
    until_s = time.monotonic() + 60
    async with httpx.AsyncClient() as http:
        while time.monotonic() < until_s:
            await asyncio.sleep(0.1)
            if psutil.pid_exists(old.pid) and old.status() != psutil.STATUS_ZOMBIE:
                continue
            try:
                answer = await http.get(f"http://127.0.0.1:{port}/readyz")
            except httpx.TransportError:
                continue
            if answer.status_code == httpx.codes.OK:
                return
    raise AssertionError(f"replica {rank}.{replica} did not come back")


async def test_a_rolling_update_under_load_loses_no_stream_and_changes_none(running: Detached) -> None:
    tokenizer, language = byte_tokenizer(), language_of(running.pipeline.stages)
    is_over = asyncio.Event()
    texts: dict[str, str] = {}

    async def keep_asking(client: AsyncClient, number: int) -> None:
        turn = 0
        while not is_over.is_set():
            prompt = f"client {number}, turn {turn}"
            texts[prompt] = (await client.generate(prompt, max_tokens=NUM_TOKENS, temperature=0)).text
            turn += 1

    ports = iter(running.stage_ports)
    async with AsyncClient(running.url("grpc")) as grpc, AsyncClient(running.url("zmq")) as zmq:
        asking = [
            asyncio.create_task(keep_asking(client, number))
            for number, client in enumerate([grpc, zmq] * (NUM_CLIENTS // 2))
        ]
        for rank in range(2):
            for replica in ("r0", "r1"):
                await _replace(running, rank, replica, next(ports))
        is_over.set()
        await asyncio.gather(*asking)

    assert len(texts) >= 2 * NUM_CLIENTS
    for prompt, text in texts.items():
        assert text == tokenizer.decode(language.target_text(tokenizer.encode(prompt).ids, NUM_TOKENS)), (
            prompt
        )
    for log in (running.folder / "logs").glob("stage-*.log"):
        stops = [line for line in log.read_text().splitlines() if "stage.stopping" in line]
        assert stops, log.name
        assert all("sessions_cut=0" in line.replace(" ", "") for line in stops), log.name
