"""Answers on the wire: streams, failures under way, clients that go away, the deadline, stopping."""

from __future__ import annotations

import asyncio
import json

import httpx
import pytest
from structlog.testing import capture_logs

from gateway.openai.asking import ASK, error_of, post
from gateway.scripted_backend import ScriptedBackend
from pipespec.gateway.openai import create_app, serve_http
from pipespec.gateway.text import TextModel
from pipespec.ops.errors import SessionLost
from pipespec.ops.pipeline import GatewaySettings
from pipespec.protocol.messages import EndReason


async def test_a_stream_on_the_wire_ends_with_done(http: httpx.AsyncClient) -> None:
    response = await post(http, {**ASK, "stream": True})
    assert response.headers["content-type"].startswith("text/event-stream")
    assert response.headers["cache-control"] == "no-store"
    events = response.text.split("\n\n")
    assert events[-2:] == ["data: [DONE]", ""]
    assert all(event.startswith("data: {") for event in events[:-2])


async def test_a_stream_that_fails_has_an_error_event_and_no_done(
    http: httpx.AsyncClient, backend: ScriptedBackend
) -> None:
    backend.default = [(5,), SessionLost("no target can go on", code="session_lost")]
    response = await post(http, {**ASK, "stream": True})
    *_, last, rest = response.text.split("\n\n")
    name, data = last.split("\n")
    assert name == "event: error"
    assert json.loads(data.removeprefix("data: "))["error"]["code"] == "session_lost"
    assert rest == ""
    assert "[DONE]" not in response.text


async def test_a_bug_of_ours_inside_a_stream_is_told_without_details(
    http: httpx.AsyncClient, backend: ScriptedBackend
) -> None:
    backend.default = [(5,), RuntimeError("secret")]
    with capture_logs() as logs:
        response = await post(http, {**ASK, "stream": True})
    assert [entry["event"] for entry in logs] == ["stream_failed"]
    assert '"code":"internal_error"' in response.text
    assert "secret" not in response.text
    assert "[DONE]" not in response.text


async def test_a_bug_of_ours_is_answered_without_details(
    http: httpx.AsyncClient, backend: ScriptedBackend
) -> None:
    backend.default = [RuntimeError("secret")]
    response = await post(http, ASK)
    assert (response.status_code, response.json()["error"]["code"]) == (500, "internal_error")
    assert "secret" not in response.text


async def test_a_lost_session_without_stream_is_503(
    http: httpx.AsyncClient, backend: ScriptedBackend
) -> None:
    backend.default = [(5,), SessionLost("no target can go on", code="session_lost")]
    response = await post(http, ASK)
    assert (response.status_code, error_of(response)["code"]) == (503, "session_lost")
    assert "retry-after" in response.headers


async def test_a_quiet_stream_carries_keep_alive_comments(
    http: httpx.AsyncClient, backend: ScriptedBackend
) -> None:
    pause = asyncio.Event()
    backend.default = [(5,), pause, (2,)]
    async with http.stream("POST", "/v1/completions", json={**ASK, "stream": True}) as response:
        lines = []
        async for line in response.aiter_lines():
            lines.append(line)
            if line == ": keep-alive":
                pause.set()
    assert ": keep-alive" in lines
    assert lines[-2] == "data: [DONE]"


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("script", ["before the first token", "after it"])
async def test_a_client_that_goes_away_cancels_its_session(
    http: httpx.AsyncClient, backend: ScriptedBackend, stream: bool, script: str
) -> None:
    backend.default = [asyncio.Event()] if script == "before the first token" else [(5,), asyncio.Event()]
    request = asyncio.create_task(post(http, {**ASK, "stream": stream}))
    session = await backend.session(0)
    request.cancel()
    await asyncio.wait({request})
    await asyncio.wait_for(session.closed.wait(), 10)
    assert session.end is EndReason.CANCELLED


async def test_a_deadline_is_504(backend: ScriptedBackend, text: TextModel) -> None:
    backend.default = [asyncio.Event()]
    settings = GatewaySettings(request_timeout_s=0.05)
    app = create_app(backend=backend, text=text, settings=settings, model_name="small")
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as http:
        response = await post(http, ASK)
    assert (response.status_code, error_of(response)["code"]) == (504, "deadline_exceeded")


async def test_stopping_lets_running_streams_finish(
    backend: ScriptedBackend, text: TextModel, settings: GatewaySettings
) -> None:
    pause = asyncio.Event()
    backend.default = [(5,), pause, (2,)]
    server = await serve_http(
        create_app(backend=backend, text=text, settings=settings, model_name="small"), "127.0.0.1", 0
    )
    url = f"http://127.0.0.1:{server.port}/v1/completions"
    async with (
        httpx.AsyncClient() as http,
        http.stream("POST", url, json={**ASK, "stream": True}) as response,
    ):
        lines = response.aiter_lines()
        await anext(lines)
        stopping = asyncio.create_task(server.stop(grace_s=10))
        await asyncio.sleep(0)
        pause.set()
        rest = [line async for line in lines]
    assert "data: [DONE]" in rest
    await stopping


async def test_streams_left_at_the_end_of_the_grace_get_an_error_event(
    backend: ScriptedBackend, text: TextModel, settings: GatewaySettings
) -> None:
    backend.default = [(5,), asyncio.Event()]
    app = create_app(backend=backend, text=text, settings=settings, model_name="small")
    server = await serve_http(app, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.port}/v1/completions"
    async with (
        httpx.AsyncClient() as http,
        http.stream("POST", url, json={**ASK, "stream": True}) as response,
    ):
        lines = response.aiter_lines()
        await anext(lines)
        stopping = asyncio.create_task(server.stop(grace_s=0))
        rest = "\n".join([line async for line in lines])
    assert "event: error" in rest
    assert "server_shutting_down" in rest
    assert "[DONE]" not in rest
    await stopping
    assert backend.opened[0].end is EndReason.CANCELLED
