"""The client library over connections that are cut: it goes on by itself, each token once, or says why it cannot."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import urlsplit

import pytest

from client.cutting import cuttable
from gateway.resume.fellows import MemoryBus, keeping
from gateway.scripted_backend import ScriptedBackend
from pipespec.client import AsyncClient, Client
from pipespec.gateway.grpc import serve_grpc
from pipespec.gateway.resume import ResumeService
from pipespec.gateway.text import TextModel
from pipespec.gateway.zmq import serve_zmq
from pipespec.ops.errors import RequestError, SessionLost, Unavailable
from pipespec.ops.pipeline import GatewaySettings
from pipespec.protocol.messages import EndReason

SAID = "Hello 👍🏽 world!"


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """A lost ZeroMQ connection is noticed by a ping."""
    monkeypatch.setattr("pipespec.client.zmq_transport.PING_S", 0.05)


def port_of(url: str) -> int:
    port = urlsplit(url).port
    assert port is not None
    return port


async def eventually(condition: Any) -> None:
    async with asyncio.timeout(60):
        while not condition():
            await asyncio.sleep(0.01)


@asynccontextmanager
async def two_gateways(
    scheme: str, backend: ScriptedBackend, text: TextModel, settings: GatewaySettings, bus: MemoryBus
) -> AsyncIterator[tuple[int, int]]:
    """Ports of two gateways of one fleet."""
    serve: Any = {"grpc": serve_grpc, "zmq": serve_zmq}[scheme]
    asked = {
        "backend": backend,
        "text": text,
        "settings": settings,
        "model_name": "small",
        "host": "127.0.0.1",
    }
    async with keeping(settings, "g0", bus) as first, keeping(settings, "g1", bus) as second:
        servers = [await serve(**asked, port=0, resume=service) for service in (first, second)]
        yield servers[0].port, servers[1].port
        for server in servers:
            await server.stop(grace_s=0)


def paced(text: TextModel) -> tuple[list[Any], list[asyncio.Event]]:
    """A script that waits before every token but the first, and what lets it go on."""
    gates = [asyncio.Event() for _ in text.encode(SAID)]
    ids = [*text.encode(SAID), 2]
    script: list[Any] = [(ids[0],)]
    for gate, token in zip(gates, ids[1:], strict=True):
        script += [gate, (token,)]
    return script, gates


async def test_a_stream_that_is_cut_after_every_token_is_whole(
    url: str, backend: ScriptedBackend, text: TextModel, resume: ResumeService
) -> None:
    script, gates = paced(text)
    backend.scripts.append(script)
    async with (
        cuttable(port_of(url)) as proxy,
        AsyncClient(f"{urlsplit(url).scheme}://127.0.0.1:{proxy.port}") as client,
    ):
        stream = client.stream("hello", resumable=True)
        chunks = [await anext(stream)]
        for gate in gates:
            proxy.cut()
            gate.set()
            chunks.append(await anext(stream))
        chunks += [chunk async for chunk in stream]
    assert stream.completion.text == SAID
    assert stream.completion.token_ids == (*text.encode(SAID), 2)
    assert [chunk.start for chunk in chunks if chunk.token_ids] == list(range(len(gates) + 1))
    assert len({chunk.resume_id for chunk in chunks}) == len(chunks)
    assert len(backend.opened) == 1


async def test_a_cut_before_the_first_token_loses_nothing(
    url: str, backend: ScriptedBackend, resume: ResumeService
) -> None:
    pause = asyncio.Event()
    backend.scripts.append([pause, (5,), (2,)])
    async with (
        cuttable(port_of(url)) as proxy,
        AsyncClient(f"{urlsplit(url).scheme}://127.0.0.1:{proxy.port}") as client,
    ):
        stream = client.stream("hello", resumable=True)
        first = asyncio.ensure_future(anext(stream))
        await eventually(lambda: stream._source.resume_id is not None)
        proxy.cut()
        pause.set()
        ids = [*(await first).token_ids, *[token async for chunk in stream for token in chunk.token_ids]]
    assert ids == [5, 2]
    assert len(backend.opened) == 1


@pytest.mark.parametrize("scheme", ["grpc", "zmq"])
async def test_it_goes_on_through_another_gateway(
    scheme: str, backend: ScriptedBackend, text: TextModel, settings: GatewaySettings
) -> None:
    script, gates = paced(text)
    backend.scripts.append(script)
    bus = MemoryBus(seed=4, loss=0.2, doubled=0.2, delay_s=0.01)
    async with (
        two_gateways(scheme, backend, text, settings, bus) as ports,
        cuttable(ports[0]) as proxy,
        AsyncClient(f"{scheme}://127.0.0.1:{proxy.port}") as client,
    ):
        stream = client.stream("hello", resumable=True, include_stats=True)
        ids = list((await anext(stream)).token_ids)
        for number, gate in enumerate(gates):
            proxy.to = ports[(number + 1) % 2]
            proxy.cut()
            gate.set()
            ids += (await anext(stream)).token_ids
        ids += [token async for chunk in stream for token in chunk.token_ids]
    assert ids == [*text.encode(SAID), 2]
    assert stream.completion.text == SAID
    assert len(stream.completion.stats) == 2
    assert bus.num_lost > 0


@pytest.mark.parametrize("scheme", ["grpc", "zmq"])
async def test_when_the_gateway_that_owns_the_stream_is_dead_it_says_so(
    scheme: str, backend: ScriptedBackend, text: TextModel, settings: GatewaySettings
) -> None:
    backend.default = [(5,), asyncio.Event()]
    bus = MemoryBus()
    async with (
        two_gateways(scheme, backend, text, settings, bus) as ports,
        cuttable(ports[0]) as proxy,
        AsyncClient(f"{scheme}://127.0.0.1:{proxy.port}") as client,
    ):
        stream = client.stream("hello", resumable=True)
        await anext(stream)
        bus.kill("g0")
        proxy.to = ports[1]
        proxy.cut()
        with pytest.raises(RequestError) as caught:
            await anext(stream)
        assert caught.value.code == "resume_expired"
        with pytest.raises(RequestError) as caught:
            await client.cancel_stream(f"g7.{0:032x}")
        assert caught.value.code == "resume_expired"


async def test_a_gateway_that_stays_away_ends_the_attempts(
    url: str, backend: ScriptedBackend, monkeypatch: pytest.MonkeyPatch, resume: ResumeService
) -> None:
    monkeypatch.setattr("pipespec.client.resuming.MAX_WAIT_S", 0.01)
    backend.default = [(5,), asyncio.Event()]
    async with (
        cuttable(port_of(url)) as proxy,
        AsyncClient(f"{urlsplit(url).scheme}://127.0.0.1:{proxy.port}") as client,
    ):
        stream = client.stream("hello", resumable=True)
        await anext(stream)
        client._transport._silence_s = 0.1  # type: ignore[attr-defined]  # of ZeroMQ; gRPC is told at once
        proxy.to = None
        proxy.cut()
        with pytest.raises(Unavailable) as caught:
            await anext(stream)
    assert caught.value.code == "gateway_unreachable"


async def test_without_resumable_a_cut_is_an_error_at_once_and_cancels(
    url: str, backend: ScriptedBackend
) -> None:
    backend.default = [(5,), asyncio.Event()]
    async with (
        cuttable(port_of(url)) as proxy,
        AsyncClient(f"{urlsplit(url).scheme}://127.0.0.1:{proxy.port}") as client,
    ):
        stream = client.stream("hello")
        assert (await anext(stream)).resume_id is None
        proxy.cut()
        with pytest.raises(RequestError) as caught:
            await anext(stream)
    assert caught.value.code in ("gateway_unreachable", "request_not_found")
    await asyncio.wait_for(backend.opened[0].closed.wait(), 60)


async def test_leaving_or_cancelling_a_resumable_stream_ends_it_at_once(
    url: str, backend: ScriptedBackend, resume: ResumeService
) -> None:
    backend.default = [(5,), asyncio.Event()]
    async with AsyncClient(url) as client:
        async with client.stream("hello", resumable=True) as left:
            await anext(left)
        cancelled = client.stream("hello", resumable=True)
        await anext(cancelled)
        await cancelled.cancel()
        with pytest.raises(RequestError) as caught:
            await anext(cancelled)
        assert caught.value.code == "cancelled"
        for session in backend.opened:
            await asyncio.wait_for(session.closed.wait(), 60)
            assert session.end is EndReason.CANCELLED


async def test_the_rest_of_a_stream_may_be_read_by_another_client(
    url: str, backend: ScriptedBackend, text: TextModel, resume: ResumeService
) -> None:
    async with (
        cuttable(port_of(url)) as proxy,
        AsyncClient(f"{urlsplit(url).scheme}://127.0.0.1:{proxy.port}") as client,
    ):
        stream = client.stream("hello", resumable=True)
        chunks = [await anext(stream) for _ in range(3)]
        async with AsyncClient(url) as other:
            rest = other.resume(chunks[-1].resume_id or "")
            chunks += [chunk async for chunk in rest]
            assert rest.completion.text in SAID
            failed = other.resume(f"g0.{0:032x}")
            with pytest.raises(RequestError) as caught:
                await anext(failed)
            assert caught.value.code == "resume_expired"
            with pytest.raises(RequestError) as caught:
                await anext(other.resume("nonsense"))
            assert caught.value.code == "invalid_value"
    assert "".join(chunk.text for chunk in chunks) == SAID


async def test_the_older_of_two_readers_is_told(
    url: str, backend: ScriptedBackend, resume: ResumeService
) -> None:
    backend.default = [(5,), asyncio.Event()]
    async with AsyncClient(url) as one, AsyncClient(url) as two:
        older = one.stream("hello", resumable=True)
        first = await anext(older)
        newer = two.resume((first.resume_id or "").rpartition(".")[0])
        assert (await anext(newer)).token_ids == first.token_ids
        with pytest.raises(RequestError) as caught:
            await anext(older)
        assert caught.value.code == "resumed_elsewhere"
        await newer.aclose()


async def test_a_failed_stream_fails_for_whoever_resumes_it(
    url: str, backend: ScriptedBackend, resume: ResumeService
) -> None:
    backend.default = [(5,), SessionLost("gone", code="session_lost")]
    async with AsyncClient(url) as client:
        stream = client.stream("hello", resumable=True)
        first = await anext(stream)
        for reading in (stream, client.resume(first.resume_id or "")):
            with pytest.raises(SessionLost, match="gone"):
                await anext(reading)


async def test_many_cuts_leave_nothing_behind(
    url: str, backend: ScriptedBackend, resume: ResumeService, text: TextModel
) -> None:
    backend.default = [(token,) for token in [*text.encode(SAID), 2]]
    async with (
        cuttable(port_of(url)) as proxy,
        AsyncClient(f"{urlsplit(url).scheme}://127.0.0.1:{proxy.port}") as client,
    ):
        asked = [asyncio.create_task(client.generate("hello", resumable=True)) for _ in range(8)]
        while not all(task.done() for task in asked):
            await asyncio.sleep(0.1)
            proxy.cut()
            await asyncio.wait(asked, timeout=0.3)
        assert [task.result().text for task in asked] == [SAID] * 8
    await eventually(lambda: resume.num_readers == 0)
    assert not resume._pumps


async def test_the_blocking_client_resumes_and_cancels(url: str, resume: ResumeService) -> None:
    def use() -> None:
        with Client(url) as client, client.stream("hello", resumable=True) as stream:
            first = next(stream)
            rest = client.resume(first.resume_id or "")
            assert first.text + "".join(chunk.text for chunk in rest) == SAID
            client.cancel_stream(first.resume_id or "")  # complete: nothing is left to end

    await asyncio.to_thread(use)
