"""gRPC connections that are greedy: each is bounded, and the others go on."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from gateway.grpc import http2 as module
from gateway.grpc.http2 import GOAWAY, HEADERS, PING, RST_STREAM, SETTINGS, call, frame, http2, message
from gateway.scripted_backend import ScriptedBackend
from pipespec.gateway.grpc import GrpcServer, serve_grpc
from pipespec.gateway.grpc import server as server_module
from pipespec.gateway.text import TextModel
from pipespec.ops.pipeline import GatewaySettings
from pipespec.v1 import pipespec_pb2 as pb
from pipespec.v1 import pipespec_pb2_grpc

ASK = pb.GenerateRequest(text="hello")
TIMEOUT_S = 60


async def serve(backend: ScriptedBackend, text: TextModel, **settings: Any) -> GrpcServer:
    return await serve_grpc(
        backend=backend,
        text=text,
        settings=GatewaySettings(**settings),
        model_name="small",
        host="127.0.0.1",
        port=0,
    )


@pytest.fixture
async def server(backend: ScriptedBackend, text: TextModel) -> AsyncIterator[GrpcServer]:
    server = await serve(backend, text)
    yield server
    await server.stop(grace_s=0)


@pytest.fixture
async def stub(server: GrpcServer) -> AsyncIterator[Any]:
    async with grpc.aio.insecure_channel(f"127.0.0.1:{server.port}") as channel:
        yield pipespec_pb2_grpc.GenerationStub(channel)


async def is_answered(stub: Any) -> bool:
    responses = [response async for response in stub.Generate(ASK, timeout=TIMEOUT_S)]
    return bool(responses[-1].HasField("completed"))


async def status_of(call: Any) -> grpc.StatusCode:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await drain(call)
    return caught.value.code()


async def drain(call: Any) -> None:
    async for _ in call:
        pass


async def test_a_message_over_4_mib_is_refused_and_the_connection_goes_on(
    stub: Any, backend: ScriptedBackend
) -> None:
    huge = pb.GenerateRequest(text="x" * (4 * 2**20))
    assert await status_of(stub.Generate(huge, timeout=TIMEOUT_S)) is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert backend.opened == []
    assert await is_answered(stub)


async def test_headers_over_16_kib_are_refused_and_the_connection_goes_on(
    stub: Any, backend: ScriptedBackend
) -> None:
    large = (("x-large", "x" * (16 * 1024)),)
    refused = stub.Generate(ASK, metadata=large, timeout=TIMEOUT_S)
    assert await status_of(refused) is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert backend.opened == []
    assert await is_answered(stub)


async def test_calls_beyond_the_streams_of_a_connection_are_refused_and_told_so_beforehand(
    backend: ScriptedBackend, text: TextModel
) -> None:
    backend.default = [(5,), asyncio.Event()]
    server = await serve(backend, text, grpc_max_streams=3)
    async with http2(server.port) as connection:
        settings = await connection.until(SETTINGS)
        assert settings is not None
        assert module.MAX_CONCURRENT_STREAMS.to_bytes(2) + (3).to_bytes(4) in settings.payload
        streams = range(1, 10, 2)
        for stream in streams:
            connection.writer.write(call(stream) + message(stream, ASK.SerializeToString()))
        refused = [await connection.until(RST_STREAM) for _ in streams[3:]]
        assert [one and (one.stream, one.error_code) for one in refused] == [
            (stream, module.REFUSED_STREAM) for stream in streams[3:]
        ]
        for index in range(3):
            await backend.session(index)
    await server.stop(grace_s=0)
    assert len(backend.opened) == 3


async def test_a_client_that_pings_without_pause_is_sent_away(server: GrpcServer, stub: Any) -> None:
    async with http2(server.port) as connection:
        end = None
        for _ in range(10):  # one after the other: a connection that is closed while it sends is reset
            connection.writer.write(frame(PING, payload=b"12345678"))
            while (got := await connection.next()) is not None and got.kind not in (PING, GOAWAY):
                pass
            if got is None or got.kind == GOAWAY:
                end = got
                break
        assert end is not None
        assert end.error_code == module.ENHANCE_YOUR_CALM
        assert await connection.until(GOAWAY) is None, "closed"
    assert await is_answered(stub)


@pytest.mark.parametrize("with_message", ["", "with-message"])
async def test_a_flood_of_calls_that_are_reset_at_once_ends_no_call_of_others(
    server: GrpcServer, stub: Any, backend: ScriptedBackend, with_message: str
) -> None:
    """Rapid reset (CVE-2023-44487), from a process of its own, as fast as it can."""
    flood = await asyncio.create_subprocess_exec(
        sys.executable, str(Path(__file__).with_name("flood.py")), str(server.port), "30000", with_message
    )
    ended = asyncio.create_task(flood.wait())
    num_answered = 0
    async with asyncio.timeout(TIMEOUT_S):
        while not ended.done():
            assert await is_answered(stub)
            num_answered += 1
    assert flood.returncode == 0
    assert num_answered > 0
    async with asyncio.timeout(TIMEOUT_S):
        while server._generator.num_active:
            await asyncio.sleep(0.01)


async def test_connections_beyond_the_bound_are_turned_away_until_others_go(
    backend: ScriptedBackend, text: TextModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = "grpc.max_allowed_incoming_connections"
    options = tuple((key, 2 if key == name else value) for key, value in server_module._OPTIONS)
    monkeypatch.setattr(server_module, "_OPTIONS", options)
    server = await serve(backend, text)
    async with http2(server.port) as first, http2(server.port) as second:
        assert await first.until(SETTINGS)
        assert await second.until(SETTINGS)
        async with http2(server.port) as third:
            assert await third.until(SETTINGS) is None, "closed"
    async with asyncio.timeout(TIMEOUT_S):
        while True:
            async with http2(server.port) as later:
                if await later.until(SETTINGS):
                    break
    await server.stop(grace_s=0)


@pytest.mark.parametrize(
    "sent",
    [
        b"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        module.PREFACE + b"\xff" * 4096,
        module.PREFACE + frame(SETTINGS) + frame(HEADERS, flags=4, stream=1, payload=b"\xff" * 64),
        module.PREFACE + frame(SETTINGS) + frame(HEADERS, flags=4, stream=2, payload=b""),
        module.PREFACE + frame(SETTINGS, payload=b"123"),
    ],
)
async def test_what_is_no_grpc_ends_its_own_connection_only(
    server: GrpcServer, stub: Any, sent: bytes
) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    writer.write(sent)
    writer.write_eof()
    async with asyncio.timeout(TIMEOUT_S):
        await reader.read()
    writer.transport.abort()
    assert await is_answered(stub)


async def test_calls_beyond_what_the_gateway_takes_at_all_are_refused(
    backend: ScriptedBackend, text: TextModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server_module, "SPARE_CALLS", 1)
    backend.default = [(5,), asyncio.Event()]
    server = await serve(backend, text, max_sessions=1)
    async with grpc.aio.insecure_channel(f"127.0.0.1:{server.port}") as channel:
        stub = pipespec_pb2_grpc.GenerationStub(channel)
        running = [aiter(stub.Generate(ASK)) for _ in range(2)]
        for events in running:
            await anext(events)
        refused = stub.Generate(ASK, timeout=TIMEOUT_S)
        assert await status_of(refused) is grpc.StatusCode.RESOURCE_EXHAUSTED
    await server.stop(grace_s=0)
    assert len(backend.opened) == 2
