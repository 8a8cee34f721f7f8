"""Connections that are slow, greedy or no HTTP at all: each has a bounded time and room, and an answer."""

from __future__ import annotations

import asyncio
import json
from contextlib import AsyncExitStack

import httpx
import pytest

from gateway.openai.asking import ASK
from gateway.openai.raw import TIMEOUT_S, connection, exchange, status_of, until_closed
from gateway.scripted_backend import ScriptedBackend
from pipespec.gateway.openai import connection as module
from pipespec.gateway.openai import create_app, serve_http
from pipespec.gateway.text import TextModel
from pipespec.ops.pipeline import GatewaySettings

BODY = json.dumps(ASK).encode()
HEAD = b"POST /v1/completions HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
LIVEZ = b"GET /livez HTTP/1.1\r\nHost: a\r\n\r\n"


@pytest.fixture
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Deadlines that a test can wait for."""
    monkeypatch.setattr(module, "HEAD_TIMEOUT_S", 0.2)
    monkeypatch.setattr(module, "BODY_TIMEOUT_S", 0.4)
    monkeypatch.setattr("pipespec.gateway.openai.body.READ_TIMEOUT_S", 0.2)


async def answer_of(reader: asyncio.StreamReader) -> tuple[int, bytes]:
    """Status and body of one response of a connection that goes on."""
    async with asyncio.timeout(TIMEOUT_S):
        head = await reader.readuntil(b"\r\n\r\n")
        (length,) = [line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length: ")]
        return status_of(head), await reader.readexactly(int(length.partition(b": ")[2]))


def code_of(answer: bytes) -> str:
    """Of an error in OpenAI's form, with its request id."""
    head, _, body = answer.partition(b"\r\n\r\n")
    error = json.loads(body)["error"]
    assert f"x-request-id: {error['request_id']}".encode() in head.lower()
    assert b"connection: close" in head.lower()
    return str(error["code"])


async def dripping(writer: asyncio.StreamWriter, piece: bytes) -> None:
    """Send a little again and again, for ever."""
    while True:
        writer.write(piece)
        await asyncio.sleep(0.02)


@pytest.mark.usefixtures("soon")
async def test_a_connection_that_says_nothing_is_closed(http_url: str) -> None:
    assert await exchange(http_url, b"") == b""


@pytest.mark.usefixtures("soon")
@pytest.mark.parametrize("first", [b"", LIVEZ])
async def test_a_head_that_drips_in_is_given_up(http_url: str, first: bytes) -> None:
    async with connection(http_url) as (reader, writer):
        if first:
            writer.write(first)
            assert (await answer_of(reader))[0] == 200
        writer.write(b"GET /livez HTTP/1.1\r\nHost: a\r\nX-Slow: ")
        drip = asyncio.create_task(dripping(writer, b"x"))
        answer = await until_closed(reader)
        drip.cancel()
    assert (status_of(answer), code_of(answer)) == (408, "body_timeout")


@pytest.mark.usefixtures("soon")
async def test_a_body_that_drips_in_is_given_up_and_the_connection_with_it(
    http_url: str, backend: ScriptedBackend
) -> None:
    async with connection(http_url) as (reader, writer):
        writer.write(HEAD % 10_000 + b"{")
        drip = asyncio.create_task(dripping(writer, b" "))
        answer = await until_closed(reader)
        drip.cancel()
    assert status_of(answer) == 408
    assert backend.opened == []


@pytest.mark.usefixtures("soon")
async def test_a_body_that_nobody_reads_does_not_hold_the_connection(http_url: str) -> None:
    async with connection(http_url) as (reader, writer):
        writer.write(b"GET /v1/models HTTP/1.1\r\nHost: a\r\nContent-Length: 999999999\r\n\r\n")
        status, _ = await answer_of(reader)
        drip = asyncio.create_task(dripping(writer, b"x" * 100))
        assert await until_closed(reader) == b""
        drip.cancel()
    assert status == 200


@pytest.mark.usefixtures("soon")
async def test_a_request_that_is_there_has_all_the_time_it_needs(
    http_url: str, backend: ScriptedBackend
) -> None:
    pause = asyncio.Event()
    backend.scripts.append([pause, (2,)])
    async with connection(http_url) as (reader, writer):
        writer.write(HEAD % len(BODY) + BODY)
        await backend.session(0)
        await asyncio.sleep(4 * module.BODY_TIMEOUT_S)
        pause.set()
        assert (await answer_of(reader))[0] == 200


@pytest.mark.usefixtures("soon")
async def test_a_connection_between_two_requests_may_be_quiet(http_url: str) -> None:
    async with connection(http_url) as (reader, writer):
        for _ in range(2):
            writer.write(LIVEZ)
            assert (await answer_of(reader))[0] == 200
            await asyncio.sleep(4 * module.HEAD_TIMEOUT_S)


@pytest.mark.parametrize("rest", [b"", b"{}"])
async def test_a_quiet_connection_is_closed_in_the_end(
    backend: ScriptedBackend,
    text: TextModel,
    settings: GatewaySettings,
    monkeypatch: pytest.MonkeyPatch,
    rest: bytes,
) -> None:
    """Also where the rest of a request came after its answer."""
    monkeypatch.setattr("pipespec.gateway.openai.server.IDLE_TIMEOUT_S", 0.1)
    app = create_app(backend=backend, text=text, settings=settings, model_name="small")
    server = await serve_http(app, "127.0.0.1", 0)
    async with connection(f"http://127.0.0.1:{server.port}") as (reader, writer):
        writer.write(b"GET /livez HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % len(rest))
        assert (await answer_of(reader))[0] == 200
        writer.write(rest)
        assert await until_closed(reader) == b""
    await server.stop(grace_s=0)


@pytest.mark.parametrize("size", [module.MAX_HEAD, 100_000, 1_000_000])
@pytest.mark.parametrize(
    ("before", "after"),
    [
        (b"GET /livez HTTP/1.1\r\nHost: a\r\nX-Large: ", b"\r\n\r\n"),
        (b"GET /livez?", b" HTTP/1.1\r\nHost: a\r\n\r\n"),
        (b"GET /", b" HTTP/1.1\r\nHost: a\r\n\r\n"),
    ],
)
async def test_heads_over_16_kib_are_refused(http_url: str, before: bytes, after: bytes, size: int) -> None:
    answer = await exchange(http_url, before + b"x" * size + after)
    assert (status_of(answer), code_of(answer)) == (431, "headers_too_large")


async def test_many_small_headers_count_like_a_large_one(http_url: str) -> None:
    lines = b"".join(b"X-%d: x\r\n" % n for n in range(3000))
    answer = await exchange(http_url, b"GET /livez HTTP/1.1\r\nHost: a\r\n" + lines + b"\r\n")
    assert (status_of(answer), code_of(answer)) == (431, "headers_too_large")


async def test_a_head_that_never_ends_is_refused_without_being_kept(http_url: str) -> None:
    async with connection(http_url) as (reader, writer):
        writer.write(b"GET /livez HTTP/1.1\r\nHost: a\r\n")
        for _ in range(20):
            writer.write(b"X-More: " + b"x" * 1000 + b"\r\n")
            await asyncio.sleep(0.01)
        answer = await until_closed(reader)
    assert (status_of(answer), code_of(answer)) == (431, "headers_too_large")


@pytest.mark.parametrize(
    "sent",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",  # TLS
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"GET /livez\r\n\r\n",
        b"GET /livez HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
        b"GET /livez HTTP/1.1\r\nHost: a\r\nX: \x00\r\n\r\n",
        b"GET /livez HTTP/1.1\r\nHost: a\r\nX : a\r\n\r\n",
        b"GET /livez HTTP/1.1\r\nHost: a\r\n X: folded\r\n\r\n",
        HEAD.replace(b"%d", b"-1"),
        HEAD.replace(b"%d", b"+1"),
        HEAD.replace(b"%d", b"1, 2"),
        HEAD.replace(b"%d", b"1\r\nContent-Length: 2"),
        HEAD.replace(b"%d", b"9" * 400),
    ],
)
async def test_what_is_no_http_is_answered_and_closed(http_url: str, sent: bytes) -> None:
    answer = await exchange(http_url, sent)
    assert status_of(answer) == 400
    assert code_of(answer) in ("invalid_http", "invalid_request")


async def test_a_bad_chunk_after_the_answer_closes_and_disturbs_nobody(
    http_url: str, http: httpx.AsyncClient
) -> None:
    async with connection(http_url) as (reader, writer):
        writer.write(b"GET /v1/models HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n")
        assert (await answer_of(reader))[0] == 200
        writer.write(b"zz\r\n")
        assert await until_closed(reader) == b""
    assert (await http.get("/livez")).status_code == 200


async def test_requests_in_one_piece_are_answered_in_order(http_url: str) -> None:
    request = HEAD % len(BODY) + BODY
    async with connection(http_url) as (reader, writer):
        writer.write(request + LIVEZ + request)
        answers = [await answer_of(reader) for _ in range(3)]
    assert [status for status, _ in answers] == [200, 200, 200]
    assert answers[1][1] == b'{"status":"ok"}'


async def test_a_body_over_two_mebibytes_is_refused_before_it_ends_and_the_connection_goes_on(
    http_url: str,
) -> None:
    size = 3 * 2**20
    async with connection(http_url) as (reader, writer):
        writer.write(HEAD % size + b" " * (size - 1))
        assert (await answer_of(reader))[0] == 413
        writer.write(b" " + LIVEZ)
        assert (await answer_of(reader))[0] == 200


async def test_connections_beyond_the_bound_are_turned_away_until_others_go(
    http_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MAX_CONNECTIONS", 3)
    async with AsyncExitStack() as stack:
        for _ in range(3):
            reader, writer = await stack.enter_async_context(connection(http_url))
            writer.write(LIVEZ)
            assert (await answer_of(reader))[0] == 200
        answer = await exchange(http_url, LIVEZ)
        assert (status_of(answer), code_of(answer)) == (503, "too_many_connections")
        assert b"\r\nretry-after: " in answer.lower()
    async with asyncio.timeout(TIMEOUT_S):
        while True:
            async with connection(http_url) as (reader, writer):
                writer.write(LIVEZ)
                if (await answer_of(reader))[0] == 200:
                    break


async def test_nothing_that_a_stranger_sends_is_logged(
    http_url: str, http: httpx.AsyncClient, caplog: pytest.LogCaptureFixture
) -> None:
    upgrade = b"GET /livez HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n"
    async with connection(http_url) as (reader, writer):
        writer.write(upgrade)
        assert (await answer_of(reader))[0] == 200
    assert status_of(await exchange(http_url, b"nonsense\r\n\r\n")) == 400
    for start in (b"", b"GET ", HEAD % len(BODY), HEAD % len(BODY) + b"{", HEAD % len(BODY) + BODY):
        async with connection(http_url) as (_, writer):
            writer.write(start)
            await writer.drain()
    assert (await http.get("/livez")).status_code == 200
    assert caplog.records == []
