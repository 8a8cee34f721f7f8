"""Streams that are cut and resumed through other gateways, as real processes: the text is the target's own, or an error."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from client.cutting import cuttable
from e2e.detached import Detached, detached
from e2e.second_gateways import Gateway, second_gateway
from pipespec.client import AsyncClient
from pipespec.emulation.chain import language_of
from pipespec.emulation.vocabulary import byte_tokenizer

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(240)]
EXAMPLE = Path(__file__).parents[2] / "examples" / "emulated-two-stages.yaml"
NUM_TOKENS = 60
GRACE_S = 4.0


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Detached]:
    document = yaml.safe_load(EXAMPLE.read_text())
    document["gateway"] = {"http_port": 0, "grpc_port": 0, "zmq_port": 0, "resume_grace_s": GRACE_S}
    document["timers"] = {"heartbeat_ms": 50, "dead_ms": 1000, "lease_ms": 3000}
    with detached(document, tmp_path_factory.mktemp("resume")) as up:
        yield up


@pytest.fixture(scope="module")
def gateways(running: Detached) -> Iterator[list[Gateway]]:
    """g0, which the supervisor runs, g1 and g2."""
    with ExitStack() as stack:
        more = [stack.enter_context(second_gateway(running, name)) for name in ("g1", "g2")]
        yield [Gateway(running.pipeline.gateway), *more]


def target_ids(running: Detached, prompt: str) -> list[int]:
    """The target's own tokens, computed without any pipeline."""
    ids = byte_tokenizer().encode(prompt).ids
    return list(language_of(running.pipeline.stages).target_text(ids, NUM_TOKENS))


def asked(prompt: str) -> dict[str, Any]:
    return {
        "model": "emulated",
        "prompt": prompt,
        "max_tokens": NUM_TOKENS,
        "temperature": 0,
        "stream": True,
        "resumable": True,
        "return_token_ids": True,
    }


class Listener:
    """A client over raw HTTP that may leave at any event and come back anywhere."""

    def __init__(self) -> None:
        self.token_ids: list[int] = []
        self.last = ""
        self.is_done = False
        self.error = ""

    @property
    def stream(self) -> str:
        return self.last.rpartition(".")[0]

    async def hear(self, response: httpx.Response, *, events: int | None = None) -> None:
        num_events, is_error = 0, False
        async for line in response.aiter_lines():
            field, _, value = line.partition(": ")
            if field == "id":
                self.last = value
            elif field == "event":
                is_error = True
            elif field == "data" and value == "[DONE]":
                self.is_done = True
            elif field == "data" and is_error:
                self.error = json.loads(value)["error"]["code"]
            elif field == "data":
                num_events += 1
                for choice in json.loads(value)["choices"]:
                    self.token_ids += choice.get("token_ids", [])
                if num_events == events:
                    return


async def eventually(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not condition():
            await asyncio.sleep(0.1)


def sessions_of_stages(running: Detached) -> int:
    total = 0
    for port in running.stage_ports:
        lines = httpx.get(f"http://127.0.0.1:{port}/metrics").text.splitlines()
        total += sum(
            int(float(line.split()[1])) for line in lines if line.startswith("pipespec_stage_sessions ")
        )
    return total


async def test_many_streams_each_cut_and_resumed_through_every_gateway_in_turn(
    running: Detached, gateways: list[Gateway]
) -> None:
    async def client(http: httpx.AsyncClient, number: int) -> None:
        prompt, heard = f"stream {number}", Listener()
        async with http.stream(
            "POST", f"{gateways[number % 3].http}/v1/completions", json=asked(prompt)
        ) as response:
            await heard.hear(response, events=1 + number)
        turn = number
        while not heard.is_done:
            turn += 1
            url = f"{gateways[turn % 3].http}/v1/streams/{heard.stream}"
            async with http.stream("GET", url, headers={"last-event-id": heard.last}) as response:
                assert response.status_code == 200
                await heard.hear(response, events=1 + (turn * 7) % 20)
        assert heard.token_ids == target_ids(running, prompt)

    async with httpx.AsyncClient(timeout=60) as http:
        await asyncio.gather(*(client(http, number) for number in range(8)))


@pytest.mark.parametrize("scheme", ["grpc", "zmq"])
async def test_the_library_goes_on_through_another_gateway(
    running: Detached, gateways: list[Gateway], scheme: str
) -> None:
    async with (
        cuttable(gateways[1].port(scheme)) as proxy,
        AsyncClient(f"{scheme}://127.0.0.1:{proxy.port}") as client,
    ):
        stream = client.stream("Once", max_tokens=NUM_TOKENS, temperature=0, resumable=True)
        ids: list[int] = []
        turn, next_cut = 0, 5
        async for chunk in stream:
            ids += chunk.token_ids
            if len(ids) >= next_cut:
                next_cut += 12
                turn += 1
                proxy.to = gateways[turn % 3].port(scheme)
                proxy.cut()
    assert turn >= 3
    assert ids == target_ids(running, "Once") == list(stream.completion.token_ids)


async def test_after_the_grace_everything_is_freed_and_the_client_is_told(
    running: Detached, gateways: list[Gateway]
) -> None:
    owner, other = gateways[1], gateways[0]
    heard = Listener()
    long = {**asked("forever"), "max_tokens": 100_000}
    async with httpx.AsyncClient(timeout=60) as http:
        async with http.stream("POST", f"{owner.http}/v1/completions", json=long) as response:
            await heard.hear(response, events=3)
        assert owner.metric("pipespec_gateway_sessions") == 1
        began = time.monotonic()
        await eventually(lambda: owner.metric("pipespec_gateway_sessions") == 0)
        assert time.monotonic() - began > GRACE_S / 2  # it did not end with the connection
        await eventually(lambda: sessions_of_stages(running) == 0)
        response = await http.get(
            f"{other.http}/v1/streams/{heard.stream}", headers={"last-event-id": heard.last}
        )
    assert (response.status_code, response.json()["error"]["code"]) == (410, "resume_expired")
    for gateway in gateways:
        for name in ("streams", "bytes", "readers"):
            await eventually(lambda g=gateway, n=name: g.metric(f"pipespec_gateway_resumable_{n}") == 0)  # type: ignore[misc]


async def test_a_killed_owner_is_an_explicit_error_while_reading_and_after(
    running: Detached, gateways: list[Gateway]
) -> None:
    owner, other = gateways[2], gateways[0]
    reading, gone = Listener(), Listener()
    long = {**asked("killed"), "max_tokens": 5000}
    async with httpx.AsyncClient(timeout=60) as http:
        for heard in (reading, gone):
            async with http.stream("POST", f"{owner.http}/v1/completions", json=long) as response:
                await heard.hear(response, events=2)
        url = f"{other.http}/v1/streams/{reading.stream}"
        async with http.stream("GET", url, headers={"last-event-id": reading.last}) as response:
            begun = len(reading.token_ids)
            rest = asyncio.create_task(reading.hear(response))
            await eventually(lambda: len(reading.token_ids) > begun)
            assert owner.process is not None
            owner.process.kill()
            await rest
        assert (reading.error, reading.is_done) == ("resume_expired", False)
        response = await http.get(f"{other.http}/v1/streams/{gone.stream}")
        assert (response.status_code, response.json()["error"]["code"]) == (410, "resume_expired")
    await eventually(lambda: sessions_of_stages(running) == 0)


def test_nobody_logged_an_error(running: Detached) -> None:
    for log in (running.folder / "logs").glob("*.log"):
        assert "Traceback" not in log.read_text(), log.read_text()[-2000:]
