"""Raw HTTP: what is refused and how, streams on the wire, clients that go away."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
from structlog.testing import capture_logs

from gateway.scripted_backend import ScriptedBackend
from pipespec.gateway.openai import create_app, serve_http
from pipespec.gateway.text import TextModel
from pipespec.ops.errors import SessionLost, SettingsError
from pipespec.ops.pipeline import GatewaySettings
from pipespec.protocol.messages import EndReason

ASK = {"model": "small", "prompt": "hello"}
CHAT = {"model": "small", "messages": [{"role": "user", "content": "hello"}]}


@pytest.fixture
async def asgi(
    backend: ScriptedBackend, text: TextModel, settings: GatewaySettings
) -> AsyncIterator[httpx.AsyncClient]:
    """The application without a server around it: enough for what is refused before anything is sent."""
    app = create_app(backend=backend, text=text, settings=settings, model_name="small")
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as client:
        yield client


async def post(http: httpx.AsyncClient, body: Any, path: str = "/v1/completions") -> httpx.Response:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    return await http.post(path, content=content, headers={"content-type": "application/json"})


def error_of(response: httpx.Response) -> dict[str, Any]:
    body = response.json()
    assert set(body) == {"error"}
    assert set(body["error"]) == {"message", "type", "param", "code", "request_id"}
    assert body["error"]["request_id"] == response.headers["x-request-id"]
    return dict(body["error"])


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[1]",
        b'{"model": "small", "model": "small", "prompt": "x"}',
        b'{"model": "small", "prompt": "x", "temperature": NaN}',
        b'{"model": "small", "prompt": "x", "temperature": -Infinity}',
        b'{"model": "small", "prompt": ' + b"[" * 33 + b"]" * 33 + b"}",
        b'{"a":' * 100_000,
        b"[" * 1_000_000,
        b'{"model": "small", "prompt": "\\ud800"}',
        b'{"model": "small", "prompt": "\xff"}',
        b'{"model": "small", "prompt": "x", "seed": ' + b"9" * 5000 + b"}",
    ],
)
async def test_malformed_json_is_refused(asgi: httpx.AsyncClient, body: bytes) -> None:
    response = await post(asgi, body)
    assert response.status_code == 400
    assert error_of(response)["code"] == "invalid_json"


@pytest.mark.parametrize(
    ("field", "value"),
    [
        *(("max_tokens", value) for value in (0, -1, 10**18, 1.5, 1.0, "x", True)),
        *(("n", value) for value in (0, 5, 10**6, True)),
        *(("temperature", value) for value in (-1, 1e9, "1", True, 1e999)),
        *(("top_p", value) for value in (0, 2)),
        *(("top_k", value) for value in (-1, 1.5)),
        *(("min_p", value) for value in (-0.1, 1.1)),
        *(("presence_penalty", value) for value in (-2.1, 2.1)),
        *(("repetition_penalty", value) for value in (0, 11)),
        *(("seed", value) for value in (2**80, -(2**64), 1.5)),
        *(
            ("logit_bias", value)
            for value in ({"330": 1}, {"x": 1}, {"-1": 1}, {"5": "1"}, {"5": 101}, {"5": None}, [1])
        ),
        ("logit_bias", {str(token): 1 for token in range(301)}),
        *(("stop", value) for value in (["a"] * 5, "", [""], "x" * 257, [1], 1, ["a"] * 10_000)),
        *(("stream", value) for value in (1, "true")),
        *(
            ("prompt", value)
            for value in ("", [], [[]], [1, "a"], [True], 5, {"a": 1}, ["a"] * 33, [-1], [330], [2**70])
        ),
        ("stream_options", {"include_usage": True}),
        ("model", 5),
    ],
)
async def test_a_bad_value_is_refused_by_its_name(
    asgi: httpx.AsyncClient, backend: ScriptedBackend, field: str, value: Any
) -> None:
    body = json.dumps({**ASK, field: value}).replace("Infinity", "1e999").encode()
    response = await post(asgi, body)
    assert response.status_code == 400
    error = error_of(response)
    assert (error["param"] or "").split(".")[0] == field
    assert error["code"] == "invalid_value"
    assert error["type"] == "invalid_request_error"
    assert backend.opened == []


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("logprobs", 0),
        ("logprobs", 5),
        ("echo", True),
        ("best_of", 2),
        ("suffix", "x"),
        ("prompt_logprobs", 1),
        ("guided_regex", "foo**"),
        ("response_format", {"type": "json_object"}),
        ("tools", [{"type": "function"}]),
        ("chat_template", "{{ 1 }}"),
        ("chat_template_kwargs", {"tokenize": False}),
        ("trust_remote_code", True),
        ("max_completion_tokens", 5),
        ("temperature_", 0.5),
    ],
)
async def test_an_unsupported_parameter_is_refused_not_ignored(
    asgi: httpx.AsyncClient, backend: ScriptedBackend, field: str, value: Any
) -> None:
    response = await post(asgi, {**ASK, field: value})
    assert response.status_code == 400
    error = error_of(response)
    assert (error["code"], error["param"]) == ("unsupported_parameter", field)
    assert backend.opened == []


async def test_neutral_values_of_unsupported_parameters_pass(asgi: httpx.AsyncClient) -> None:
    neutral = {
        "logprobs": None,
        "echo": False,
        "best_of": 1,
        "response_format": {"type": "text"},
        "tools": [],
    }
    assert (await post(asgi, {**ASK, **neutral})).status_code == 200


@pytest.mark.parametrize(
    ("messages", "param"),
    [
        ([], "messages"),
        ([{"role": "wizard", "content": "x"}], "messages.0.role"),
        ([{"role": "user"}], "messages.0.content"),
        ([{"content": "x"}], "messages.0.role"),
        ([{"role": "user", "content": "x", "name": "y"}], "messages.0.name"),
        ([{"role": "user", "content": [{"type": "image_url", "image_url": "x"}]}], "messages.0.content"),
        (["x"], "messages.0"),
        ("x", "messages"),
    ],
)
async def test_bad_messages_are_refused(asgi: httpx.AsyncClient, messages: Any, param: str) -> None:
    response = await post(asgi, {"model": "small", "messages": messages}, "/v1/chat/completions")
    assert response.status_code == 400
    assert str(error_of(response)["param"]).startswith(param)


async def test_both_names_of_max_tokens_together_are_refused(asgi: httpx.AsyncClient) -> None:
    response = await post(asgi, {**CHAT, "max_tokens": 5, "max_completion_tokens": 5}, "/v1/chat/completions")
    assert response.status_code == 400
    assert error_of(response)["param"] == "max_tokens"


@pytest.mark.parametrize(("missing", "path"), [("model", "/v1/completions"), ("prompt", "/v1/completions")])
async def test_a_missing_parameter_is_named(asgi: httpx.AsyncClient, missing: str, path: str) -> None:
    response = await post(asgi, {name: value for name, value in ASK.items() if name != missing}, path)
    error = error_of(response)
    assert (response.status_code, error["code"], error["param"]) == (
        400,
        "missing_required_parameter",
        missing,
    )


async def test_a_body_over_two_mebibytes_is_refused(http: httpx.AsyncClient) -> None:
    response = await post(http, {**ASK, "user": "x" * 2**21})
    assert response.status_code == 413
    assert error_of(response)["code"] == "body_too_large"


async def test_other_content_types_methods_and_paths_are_refused(http: httpx.AsyncClient) -> None:
    form = await http.post("/v1/completions", content=b"{}", headers={"content-type": "text/plain"})
    assert (form.status_code, error_of(form)["code"]) == (415, "unsupported_media_type")
    method = await http.get("/v1/completions")
    assert (method.status_code, error_of(method)["code"]) == (405, "method_not_allowed")
    assert method.headers["allow"] == "POST"
    for path in ("/admin", "/metrics", "//v1/models", "/docs", "/openapi.json"):
        response = await http.get(httpx.URL(str(http.base_url).rstrip("/") + path))
        assert (response.status_code, error_of(response)["code"]) == (404, "not_found"), path


async def test_too_large_headers_are_refused(http: httpx.AsyncClient) -> None:
    response = await http.get("/v1/models", headers={"x-large": "x" * 17_000})
    assert response.status_code == 431
    assert error_of(response)["code"] == "headers_too_large"


@pytest.mark.parametrize(
    "head",
    [
        b"POST /v1/completions HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"GET /v1/models HTTP/1.1\r\nHost: a b\r\n\r\n",
        b"GET /v1/models HTTP/1.1\r\nHost: a/../b\r\n\r\n",
        b"GET /v1/models HTTP/1.1\r\n\r\n",
        b"POST /v1/completions HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n\r\n",
    ],
)
async def test_ambiguous_requests_are_refused_and_the_connection_closed(http_url: str, head: bytes) -> None:
    answer = await raw_exchange(http_url, head)
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert b"\r\nconnection: close\r\n" in answer.lower()


async def raw_exchange(url: str, sent: bytes) -> bytes:
    """All that comes back until the server closes."""
    reader, writer = await asyncio.open_connection(urlsplit(url).hostname, urlsplit(url).port)
    writer.write(sent)
    try:
        return await asyncio.wait_for(reader.read(), 10)
    finally:
        writer.close()
        await writer.wait_closed()


async def test_a_body_that_does_not_arrive_is_given_up(
    http_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipespec.gateway.openai.body.READ_TIMEOUT_S", 0.05)
    head = (
        b"POST /v1/completions HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nContent-Length: 9\r\n"
    )
    answer = await raw_exchange(http_url, head + b"Connection: close\r\n\r\n{")
    assert answer.startswith(b"HTTP/1.1 408 ")


async def test_the_request_id_is_echoed_or_made(http: httpx.AsyncClient) -> None:
    given = await http.get("/v1/models", headers={"x-request-id": "abc-1"})
    assert given.headers["x-request-id"] == "abc-1"
    made = [
        (await http.get("/v1/models", headers={"x-request-id": "a b"})).headers["x-request-id"] for _ in "ab"
    ]
    assert made[0] != made[1] != "a b"


async def test_an_active_request_id_is_refused(http: httpx.AsyncClient, backend: ScriptedBackend) -> None:
    pause = asyncio.Event()
    backend.scripts.append([pause, (2,)])
    headers = {"x-request-id": "abc-1"}
    first = asyncio.create_task(http.post("/v1/completions", json=ASK, headers=headers))
    await backend.session(0)
    second = await http.post("/v1/completions", json=ASK, headers=headers)
    assert (second.status_code, error_of(second)["code"]) == (409, "request_id_active")
    pause.set()
    assert (await first).status_code == 200


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


async def test_health(http: httpx.AsyncClient, backend: ScriptedBackend) -> None:
    paths = ("/healthz", "/livez", "/readyz")
    assert [(await http.get(path)).status_code for path in paths] == [200, 200, 200]
    backend.is_ready = False
    assert [(await http.get(path)).status_code for path in paths] == [200, 200, 503]


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


async def test_a_port_in_use_is_a_settings_error(
    http_url: str, backend: ScriptedBackend, text: TextModel, settings: GatewaySettings
) -> None:
    app = create_app(backend=backend, text=text, settings=settings, model_name="small")
    with pytest.raises(SettingsError, match="cannot serve HTTP"):
        await serve_http(app, "127.0.0.1", urlsplit(http_url).port or 0)
