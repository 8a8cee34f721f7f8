"""Clients that stop reading, over real sockets: little is held for them, they are given up, and nobody else notices."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator
from typing import Any

import grpc
import httpx
import msgpack
import pytest
import zmq
import zmq.asyncio

from gateway.scripted_backend import ScriptedBackend, ScriptedStream
from pipespec.gateway.generation import Generator, TokenPrompt
from pipespec.gateway.generation.generation import BUFFERED
from pipespec.gateway.generation.request import GenerationRequest
from pipespec.gateway.grpc import serve_grpc
from pipespec.gateway.grpc import service as grpc_service
from pipespec.gateway.openai import create_app, event_stream, serve_http
from pipespec.gateway.text import TextModel
from pipespec.gateway.zmq import router as zmq_router
from pipespec.gateway.zmq import serve_zmq
from pipespec.ops.pipeline import GatewaySettings
from pipespec.protocol.ids import TokenId
from pipespec.protocol.messages import EndReason
from pipespec.v1 import pipespec_pb2 as pb
from pipespec.v1 import pipespec_pb2_grpc

LONG = 200_000
"""Tokens; as server-sent events some 50 MB, far more than all buffers together."""
MOST_HELD = 30_000
"""Of these, what may have left the pipeline for a client that reads nothing: about 6 MB as events, kernel included."""


@pytest.fixture
def backend(text: TextModel) -> ScriptedBackend:
    """Says one word for ever; short requests get a few of them."""
    return ScriptedBackend([(5,)] * LONG, vocab_size=330, context_len=2 * LONG)


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A second is enough of a stall."""
    for module in (event_stream, grpc_service, zmq_router):
        monkeypatch.setattr(module, "STALLED_CLIENT_S", 1.0)


async def assert_bounded_and_given_up(session: ScriptedStream) -> None:
    """The session stops to be asked for tokens, and then it is cancelled."""
    async with asyncio.timeout(60):
        await session.closed.wait()
    assert session.end is EndReason.CANCELLED
    assert 0 < session.delivered < MOST_HELD


@pytest.fixture
async def http_port(
    backend: ScriptedBackend, text: TextModel, settings: GatewaySettings
) -> AsyncIterator[int]:
    app = create_app(backend=backend, text=text, settings=settings, model_name="small")
    server = await serve_http(app, "127.0.0.1", 0)
    yield server.port
    await server.stop(grace_s=0)


def asks(num_tokens: int) -> dict[str, Any]:
    return {"model": "small", "prompt": [3, 4], "max_tokens": num_tokens, "stream": True}


async def test_over_http(http_port: int, backend: ScriptedBackend) -> None:
    body = json.dumps(asks(LONG)).encode()
    head = (
        "POST /v1/completions HTTP/1.1\r\nhost: test\r\ncontent-type: application/json\r\n"
        f"content-length: {len(body)}\r\n\r\n"
    )
    deaf = socket.socket()
    deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    deaf.connect(("127.0.0.1", http_port))
    deaf.sendall(head.encode() + body)
    session = await backend.session(0)
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{http_port}/v1", timeout=30) as other:
        assert "[DONE]" in (await other.post("/completions", json=asks(8))).text
    await assert_bounded_and_given_up(session)
    deaf.close()


@pytest.fixture
async def port(
    request: pytest.FixtureRequest, backend: ScriptedBackend, text: TextModel, settings: GatewaySettings
) -> AsyncIterator[int]:
    server = await request.param(
        backend=backend, text=text, settings=settings, model_name="small", host="127.0.0.1", port=0
    )
    yield server.port
    await server.stop(grace_s=0)


@pytest.mark.parametrize("port", [serve_grpc], indirect=True)
async def test_over_grpc(port: int, backend: ScriptedBackend) -> None:
    def request(num_tokens: int) -> pb.GenerateRequest:
        return pb.GenerateRequest(token_ids=pb.TokenIds(ids=[3, 4]), max_tokens=num_tokens)

    window = [
        ("grpc.http2.bdp_probe", 0),
        ("grpc.http2.lookahead_bytes", 65_535),
    ]  # or the client takes megabytes
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}", options=window) as channel:
        stub: Any = pipespec_pb2_grpc.GenerationStub(channel)
        deaf = stub.Generate(request(LONG))
        assert await deaf.read() is not grpc.aio.EOF
        session = await backend.session(0)
        others = [response async for response in stub.Generate(request(8))]
        assert others[-1].WhichOneof("event") == "completed"
        await assert_bounded_and_given_up(session)
        deaf.cancel()


@pytest.mark.parametrize("port", [serve_zmq], indirect=True)
async def test_over_zeromq(port: int, backend: ScriptedBackend) -> None:
    context = zmq.asyncio.Context()
    deaf, other = (context.socket(zmq.DEALER) for _ in range(2))
    deaf.setsockopt(zmq.RCVHWM, 1)
    deaf.setsockopt(zmq.RCVBUF, 4096)

    async def ask(client: zmq.asyncio.Socket, num_tokens: int) -> None:
        client.connect(f"tcp://127.0.0.1:{port}")
        message = {"v": 1, "type": "generate", "id": "a", "token_ids": [3, 4], "max_tokens": num_tokens}
        await client.send(msgpack.packb(message))

    await ask(deaf, LONG)
    session = await backend.session(0)
    await ask(other, 8)
    while msgpack.unpackb(await asyncio.wait_for(other.recv(), 30))["type"] != "done":
        pass
    await assert_bounded_and_given_up(session)
    context.destroy(linger=0)


async def test_a_consumer_that_comes_back_late_gets_every_token(
    backend: ScriptedBackend, text: TextModel, settings: GatewaySettings
) -> None:
    backend.default = [(TokenId(3 + index % 100),) for index in range(2000)]
    generator = Generator(backend=backend, text=text, settings=settings, model_name="small", protocol="test")
    request = GenerationRequest(prompts=(TokenPrompt((TokenId(3),)),), max_tokens=2000, ignore_eos=True)
    async with await generator.start(request) as generation:
        first = await anext(generation)
        held = -1
        while held != backend.opened[0].delivered:  # until the buffer is full
            held = backend.opened[0].delivered
            await asyncio.sleep(0.01)
        assert held < BUFFERED // 256 + 2
        rest = [event async for event in generation]
    ids = [token for event in [first, *rest] for token in getattr(event, "token_ids", ())]
    assert ids == [3 + index % 100 for index in range(2000)]
