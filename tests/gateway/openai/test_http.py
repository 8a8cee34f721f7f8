"""HTTP itself: limits, methods, ambiguous requests, request ids, health, the server's own end."""

from __future__ import annotations

import asyncio
from urllib.parse import urlsplit

import httpx
import pytest

from gateway.openai.asking import ASK, error_of, post
from gateway.openai.raw import connection, exchange
from gateway.scripted_backend import ScriptedBackend
from pipespec.gateway.openai import create_app, serve_http
from pipespec.gateway.text import TextModel
from pipespec.ops.errors import InvariantBroken, SettingsError
from pipespec.ops.pipeline import GatewaySettings


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
    answer = await exchange(http_url, head)
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert b"\r\nconnection: close\r\n" in answer.lower()


async def test_a_body_that_does_not_arrive_is_given_up(
    http_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipespec.gateway.openai.body.READ_TIMEOUT_S", 0.05)
    head = (
        b"POST /v1/completions HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nContent-Length: 9\r\n"
    )
    answer = await exchange(http_url, head + b"Connection: close\r\n\r\n{")
    assert answer.startswith(b"HTTP/1.1 408 ")


async def test_bodies_are_counted_while_they_arrive_and_refused_beyond_what_the_gateway_holds(
    http: httpx.AsyncClient, http_url: str, backend: ScriptedBackend
) -> None:
    async def until(num_bytes: int) -> None:
        async with asyncio.timeout(60):
            while backend.arriving.num_bytes != num_bytes:
                await asyncio.sleep(0.005)

    backend.arriving.limit = 1100
    async with connection(http_url) as (_, writer):
        writer.write(
            b"POST /v1/completions HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n"
            b"Content-Length: 99999\r\n\r\n" + b" " * 1000
        )
        await until(1000)
        refused = await post(http, {**ASK, "user": "x" * 100})
        assert (refused.status_code, error_of(refused)["code"]) == (429, "overloaded")
        assert int(refused.headers["retry-after"]) >= 1
        assert (await post(http, ASK)).status_code == 200
    await until(0)
    assert (await post(http, {**ASK, "user": "x" * 5000})).status_code == 200


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


async def test_health(http: httpx.AsyncClient, backend: ScriptedBackend) -> None:
    paths = ("/healthz", "/livez", "/readyz")
    assert [(await http.get(path)).status_code for path in paths] == [200, 200, 200]
    backend.is_ready = False
    assert [(await http.get(path)).status_code for path in paths] == [200, 200, 503]


async def test_a_port_in_use_is_a_settings_error(
    http_url: str, backend: ScriptedBackend, text: TextModel, settings: GatewaySettings
) -> None:
    app = create_app(backend=backend, text=text, settings=settings, model_name="small")
    with pytest.raises(SettingsError, match="cannot serve HTTP"):
        await serve_http(app, "127.0.0.1", urlsplit(http_url).port or 0)


async def test_a_server_that_ends_by_itself_is_told(
    backend: ScriptedBackend, text: TextModel, settings: GatewaySettings
) -> None:
    app = create_app(backend=backend, text=text, settings=settings, model_name="small")
    server = await serve_http(app, "127.0.0.1", 0)
    server._server.should_exit = True
    with pytest.raises(InvariantBroken, match="'http'"):
        await asyncio.wait_for(server.failed(), 10)
