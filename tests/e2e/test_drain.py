"""SIGTERM for a gateway that serves fifty streams: not ready at once, alive to the end, and every stream has an explicit end."""

from __future__ import annotations

import asyncio
import json
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from e2e.detached import Detached, detached
from e2e.local_chain import free_port
from pipespec.emulation.chain import language_of
from pipespec.ops.pipeline import GatewaySettings

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(240)]
EXAMPLE = Path(__file__).parents[2] / "examples" / "emulated-two-stages.yaml"
MODEL = "emulated"
NUM_STREAMS = 50
SHORT, LONG = 60, 20_000
"""Tokens: a moment's, and more than any drain waits for."""
KEPT = 600
"""Tokens: of more events than sockets hold, and of fewer than a gateway keeps."""


@dataclass
class Gateway:
    """A second gateway of a pipeline that runs; nobody starts it again."""

    running: Detached
    settings: GatewaySettings
    process: subprocess.Popen[bytes]

    def url(self, path: str, *, of_metrics: bool = False) -> str:
        port = self.settings.metrics_port if of_metrics else self.settings.http_port
        return f"http://127.0.0.1:{port}{path}"


@pytest.fixture(params=[{"drain_timeout_s": 6.0}])
def gateway(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Gateway]:
    document = yaml.safe_load(EXAMPLE.read_text())
    document["gateway"] = {"http_port": 0, "grpc_port": 0, "zmq_port": 0}
    document["timers"] = {"heartbeat_ms": 50, "dead_ms": 5000}
    with detached(document, tmp_path) as up:
        ports = {f"{name}_port": free_port() for name in ("http", "grpc", "zmq", "metrics")}
        settings = GatewaySettings(**ports, **request.param)
        pipeline = up.pipeline.model_copy(update={"gateway": settings})
        file = tmp_path / "second.yaml"
        file.write_text(yaml.safe_dump(pipeline.model_dump(mode="json")))
        command = [sys.executable, "-m", "pipespec.cli", "serve", "gateway"]
        process = subprocess.Popen([*command, "--replica", "g1", "--pipeline", str(file)])
        try:
            yield Gateway(up, settings, process)
        finally:
            process.kill()
            process.wait()


@dataclass
class Stream:
    """What a client of the stream has seen."""

    prompt: list[int]
    ids: list[int]
    has_begun: asyncio.Event
    last: str = ""

    async def read(self, http: httpx.AsyncClient, url: str, *, tokens: int) -> None:
        body = {
            "model": MODEL,
            "prompt": self.prompt,
            "max_tokens": tokens,
            "temperature": 0,
            "ignore_eos": True,
            "stream": True,
            "return_token_ids": True,
        }
        async with http.stream("POST", url, json=body) as response:
            assert response.status_code == 200, await response.aread()
            async for line in response.aiter_lines():
                if not line.startswith("data: "):
                    continue
                self.last = line[6:]
                if self.last.startswith('{"id"'):
                    self.ids += json.loads(self.last)["choices"][0].get("token_ids", [])
                    self.has_begun.set()


async def status(http: httpx.AsyncClient, url: str) -> int:
    try:
        return (await http.get(url)).status_code
    except httpx.TransportError:
        return 0


async def until(http: httpx.AsyncClient, url: str, code: int) -> None:
    async with asyncio.timeout(60):
        while await status(http, url) != code:
            await asyncio.sleep(0.05)


async def test_a_gateway_that_ends_finishes_what_it_can_and_tells_the_rest(gateway: Gateway) -> None:
    language = language_of(gateway.running.pipeline.stages)
    limits = httpx.Limits(max_connections=None)
    async with httpx.AsyncClient(timeout=120, limits=limits, trust_env=False) as http:
        await until(http, gateway.url("/readyz"), 200)
        streams = [Stream([3 + number], [], asyncio.Event()) for number in range(NUM_STREAMS)]
        url = gateway.url("/v1/completions")
        reading = [
            asyncio.create_task(stream.read(http, url, tokens=LONG if number % 2 else SHORT))
            for number, stream in enumerate(streams)
        ]
        async with asyncio.timeout(60):
            await asyncio.gather(*(stream.has_begun.wait() for stream in streams))

        gateway.process.terminate()
        await until(http, gateway.url("/readyz", of_metrics=True), 503)
        assert await status(http, gateway.url("/livez", of_metrics=True)) == 200
        await until(http, gateway.url("/readyz"), 503)
        assert await status(http, gateway.url("/livez")) == 200
        late: Any = await http.post(url, json={"model": MODEL, "prompt": [3], "max_tokens": 1})
        assert (late.status_code, late.json()["error"]["code"]) == (503, "server_shutting_down")
        assert int(late.headers["retry-after"]) >= 1

        async with asyncio.timeout(60):
            await asyncio.gather(*reading)
    for number, stream in enumerate(streams):
        assert stream.ids == language.target_text(stream.prompt, LONG)[: len(stream.ids)]
        if number % 2:
            assert json.loads(stream.last)["error"]["code"] == "server_shutting_down"
        else:
            assert (len(stream.ids), stream.last) == (SHORT, "[DONE]")
    assert await asyncio.to_thread(gateway.process.wait, 60) == 0


async def ask_and_read_nothing(
    settings: GatewaySettings,
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A client of a resumable stream, by a connection that holds little of it."""
    connection = socket.socket()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    connection.setblocking(False)
    await asyncio.get_running_loop().sock_connect(connection, ("127.0.0.1", settings.http_port))
    reader, writer = await asyncio.open_connection(sock=connection, limit=4096)
    body = json.dumps(
        {
            "model": settings.model_name,
            "prompt": [3],
            "max_tokens": KEPT,
            "temperature": 0,
            "ignore_eos": True,
            "stream": True,
            "resumable": True,
        }
    )
    head = f"POST /v1/completions HTTP/1.1\r\nhost: x\r\ncontent-length: {len(body)}\r\nconnection: close\r\n"
    writer.write(f"{head}content-type: application/json\r\n\r\n{body}".encode())
    return reader, writer


# Every event has the model's name.
@pytest.mark.parametrize("gateway", [{"drain_timeout_s": 60.0, "model_name": "m" * 2000}], indirect=True)
async def test_a_resumable_stream_that_has_ended_is_read_to_its_end_while_its_gateway_drains(
    gateway: Gateway,
) -> None:
    async with httpx.AsyncClient(timeout=120, trust_env=False) as http:
        await until(http, gateway.url("/readyz"), 200)
        reader, writer = await ask_and_read_nothing(gateway.settings)
        await reader.readuntil(b"id: ")
        async with asyncio.timeout(60):
            metrics = gateway.url("/metrics", of_metrics=True)
            while "\npipespec_gateway_sessions 0.0\n" not in (await http.get(metrics)).text:
                await asyncio.sleep(0.1)
        gateway.process.terminate()
        await until(http, gateway.url("/readyz", of_metrics=True), 503)
        await asyncio.sleep(3)  # longer than a gateway takes that waits for nobody
    said = await asyncio.wait_for(reader.read(-1), 60)
    assert len(said) > 200_000, "it was not kept by the system alone"
    assert b"data: [DONE]" in said
    writer.close()
    assert await asyncio.to_thread(gateway.process.wait, 60) == 0
