"""More than a gateway takes, over every protocol: who waits, who is sent away, with which code and until when."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import httpx
import pytest

from gateway.scripted_backend import ScriptedBackend
from pipespec.client import AsyncClient
from pipespec.gateway.gate import Gate, Limits, Pool
from pipespec.gateway.grpc import serve_grpc
from pipespec.gateway.openai import create_app, serve_http
from pipespec.gateway.text import TextModel
from pipespec.gateway.zmq import serve_zmq
from pipespec.ops.errors import Overloaded, RequestError, Unavailable
from pipespec.ops.pipeline import GatewaySettings
from pipespec.protocol.messages import EndReason


@dataclass
class Refusal:
    """What a client learns."""

    code: str
    status: str
    retry_after_s: float | None


@dataclass
class Edge:
    """One protocol's server, with room for one session and for one request that waits."""

    backend: ScriptedBackend
    ask: Callable[..., Awaitable[Refusal | None]]

    async def fill(self) -> list[asyncio.Task[Refusal | None]]:
        """One request that runs and one that waits."""
        tasks = [asyncio.create_task(self.ask())]
        await self.backend.session(0)
        tasks.append(asyncio.create_task(self.ask()))
        async with asyncio.timeout(30):
            while not self.backend.gate.ledger.waiting:
                await asyncio.sleep(0.01)
        return tasks


async def over_http(url: str, **fields: Any) -> Refusal | None:
    body = {"model": "small", "prompt": [3], "max_tokens": 9, "stream": True, **fields}
    async with httpx.AsyncClient(timeout=30) as http:
        response = await http.post(f"{url}/v1/completions", json=body)
    if response.status_code == 200:
        return None
    after = response.headers.get("retry-after")
    code = response.json()["error"]["code"]
    return Refusal(code, str(response.status_code), None if after is None else float(after))


async def over_library(url: str, **fields: Any) -> Refusal | None:
    kinds = {Overloaded: "429", Unavailable: "503"}
    async with AsyncClient(url) as client:
        try:
            await client.generate(token_ids=[3], **{"max_tokens": 9, **fields})
        except RequestError as error:
            after = getattr(error, "retry_after_s", None)
            return Refusal(error.code, kinds.get(type(error), "other"), after)
    return None


@pytest.fixture(params=["http", "grpc", "zmq"])
async def edge(
    request: pytest.FixtureRequest, backend: ScriptedBackend, text: TextModel, settings: GatewaySettings
) -> AsyncIterator[Edge]:
    limits = Limits(sessions=1, tokens=100, waiting=1, patience_s=0.0)
    backend.gate = Gate(limits, pool=lambda: Pool(backend.num_open, 10) if backend.is_ready else None)
    backend.default = [asyncio.Event()]
    if request.param == "http":
        app = create_app(backend=backend, text=text, settings=settings, model_name="small")
        server: Any = await serve_http(app, "127.0.0.1", 0)
        url, send = f"http://127.0.0.1:{server.port}", over_http
    else:
        serve = {"grpc": serve_grpc, "zmq": serve_zmq}[request.param]
        server = await serve(
            backend=backend, text=text, settings=settings, model_name="small", host="127.0.0.1", port=0
        )
        url, send = f"{request.param}://127.0.0.1:{server.port}", over_library
    yield Edge(backend, lambda **fields: send(url, **fields))
    await server.stop(grace_s=0)


async def cancelled(tasks: list[asyncio.Task[Refusal | None]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def test_who_cannot_even_wait_is_told_when_to_come_back(edge: Edge) -> None:
    tasks = await edge.fill()
    assert await edge.ask() == Refusal("overloaded", "429", 1.0)
    await cancelled(tasks)


async def test_who_waited_too_long_is_told_and_never_started(edge: Edge) -> None:
    running, waiting = await edge.fill()
    edge.backend.gate.turn()  # the clock
    assert await waiting == Refusal("queue_timeout", "429", 1.0)
    assert len(edge.backend.opened) == 1
    await cancelled([running])


async def test_without_a_target_it_is_unavailable_for_those_that_come_and_those_that_wait(edge: Edge) -> None:
    running, waiting = await edge.fill()
    edge.backend.is_ready = False
    assert await edge.ask() == Refusal("no_target_available", "503", 1.0)
    edge.backend.gate.turn()
    assert await waiting == Refusal("no_target_available", "503", 1.0)
    await cancelled([running])


async def test_more_tokens_than_ever_fit_are_the_clients_mistake(edge: Edge) -> None:
    refusal = await edge.ask(max_tokens=150)
    assert refusal is not None
    assert (refusal.code, refusal.retry_after_s) == ("request_too_large", None)


async def test_the_deadline_ends_a_request_that_waits(edge: Edge) -> None:
    running, waiting = await edge.fill()
    await cancelled([waiting])
    late = await asyncio.wait_for(edge.ask(timeout_s=0.2), 30)
    assert late is not None
    assert late.code == "deadline_exceeded"
    await cancelled([running])


async def test_the_deadline_ends_a_session_that_runs(edge: Edge) -> None:
    refusal = await asyncio.wait_for(edge.ask(timeout_s=0.2), 30)
    assert refusal is None or refusal.code == "deadline_exceeded"  # over HTTP in the stream, after the 200
    session = await edge.backend.session(0)
    await asyncio.wait_for(session.closed.wait(), 30)
    assert session.end in (EndReason.DEADLINE, EndReason.CANCELLED)


async def test_a_client_that_goes_while_it_waits_leaves_nothing_behind(edge: Edge) -> None:
    running, waiting = await edge.fill()
    await cancelled([waiting, running])
    async with asyncio.timeout(30):
        await edge.backend.gate.empty()
    ledger = edge.backend.gate.ledger
    assert (ledger.num_bytes, ledger.tokens, len(ledger.waiting)) == (0, 0, 0)
