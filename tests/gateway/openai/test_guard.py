"""Who is let in over HTTP: a real server with keys, asked with and without them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator

import httpx
import openai
import pytest
from structlog.testing import capture_logs

from gateway.access.keys import ALICE, ALICE_NEW, BOB, CAROL, bearer, key_ring
from gateway.openai.asking import ASK, CHAT, error_of
from gateway.openai.raw import connection, exchange, status_of, until_closed
from gateway.scripted_backend import ScriptedBackend
from pipespec.gateway.access import KeyRing
from pipespec.gateway.openai import create_app, serve_http
from pipespec.gateway.text import TextModel
from pipespec.ops.pipeline import GatewaySettings


@pytest.fixture
def keys() -> KeyRing:
    return key_ring()


@pytest.fixture
async def http_url(
    backend: ScriptedBackend, text: TextModel, settings: GatewaySettings, keys: KeyRing
) -> AsyncIterator[str]:
    app = create_app(backend=backend, text=text, settings=settings, model_name="small", keys=keys)
    server = await serve_http(app, "127.0.0.1", 0)
    yield f"http://127.0.0.1:{server.port}"
    await server.stop(grace_s=0)


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/v1/completions"),
        ("POST", "/v1/chat/completions"),
        ("GET", "/v1/models"),
        ("GET", "/v1/models/small"),
        ("GET", "/healthz"),
        ("GET", "/metrics"),
        ("GET", "/admin"),
        ("GET", "/docs"),
        ("GET", "/openapi.json"),
        ("GET", "/"),
        ("OPTIONS", "/v1/completions"),
        ("HEAD", "/v1/models"),
    ],
)
@pytest.mark.parametrize("headers", [{}, bearer("ps-nobody-0123456789"), {"Authorization": f"Basic {ALICE}"}])
async def test_without_a_key_that_counts_nothing_is_served(
    http: httpx.AsyncClient, method: str, path: str, headers: dict[str, str], backend: ScriptedBackend
) -> None:
    response = await http.request(method, path, headers=headers, json=ASK if method == "POST" else None)
    assert response.status_code == 401
    assert response.headers["www-authenticate"].startswith('Bearer realm="pipespec"')
    assert ("invalid_token" in response.headers["www-authenticate"]) == bool(headers)
    assert response.headers.get("connection") == (None if method == "POST" else "close")
    if method != "HEAD":
        assert error_of(response)["code"] == "invalid_api_key"
    assert backend.opened == []


@pytest.mark.parametrize("path", ["/livez", "/readyz"])
async def test_probes_need_no_key(http: httpx.AsyncClient, path: str) -> None:
    assert (await http.get(path)).status_code == 200


@pytest.mark.parametrize(
    "target",
    [
        "/v1/../admin",
        "/livez/../v1/models",
        "/livez/..%2fv1/models",
        "/livez%2f..%2fv1/models",
        "//livez",
        "/livez/",
        "/livez/x",
        "/LIVEZ",
        "/livez;/v1/models",
        "/livez%00/v1/models",
        "/livez\\..\\v1\\models",
        "//v1/models",
        "/./v1/models",
        "/v1//models",
        "/%76%31/models",
        "http://a/livez",
        "http://a/v1/models",
        "*",
    ],
)
async def test_no_spelling_of_a_path_goes_around_the_key(http_url: str, target: str) -> None:
    answer = await exchange(
        http_url, f"GET {target} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n".encode()
    )
    assert status_of(answer) in (400, 401)


async def test_a_probe_in_another_spelling_is_only_a_probe(http_url: str) -> None:
    answer = await exchange(http_url, b"GET /%6civez HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
    assert answer.endswith(b'{"status":"ok"}')


@pytest.mark.parametrize("path", ["/metrics", "/admin", "/v1/../admin", "//v1/models", "/livez/../v1/models"])
async def test_with_a_key_what_is_not_there_is_not_found(http_url: str, path: str) -> None:
    head = f"GET {path} HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {ALICE}\r\nConnection: close\r\n\r\n"
    assert status_of(await exchange(http_url, head.encode())) == 404


@pytest.mark.parametrize("key", [ALICE, ALICE_NEW, BOB])
async def test_every_key_that_counts_is_served(http: httpx.AsyncClient, key: str) -> None:
    for path, body in (("/v1/completions", ASK), ("/v1/chat/completions", CHAT)):
        assert (await http.post(path, json=body, headers=bearer(key))).status_code == 200


async def test_the_openai_client_sends_its_key(http_url: str) -> None:
    async with openai.AsyncOpenAI(base_url=f"{http_url}/v1", api_key=ALICE, max_retries=0) as client:
        assert [model.id async for model in client.models.list()] == ["small"]
    async with openai.AsyncOpenAI(base_url=f"{http_url}/v1", api_key="none", max_retries=0) as client:
        with pytest.raises(openai.AuthenticationError):
            await client.models.list()


async def test_a_model_of_others_is_neither_served_nor_listed(
    http: httpx.AsyncClient, backend: ScriptedBackend
) -> None:
    response = await http.post("/v1/completions", json=ASK, headers=bearer(CAROL))
    assert (response.status_code, error_of(response)["code"]) == (403, "model_not_allowed")
    card = await http.get("/v1/models/small", headers=bearer(CAROL))
    assert (card.status_code, error_of(card)["code"]) == (403, "model_not_allowed")
    assert (await http.get("/v1/models", headers=bearer(CAROL))).json()["data"] == []
    assert backend.opened == []


async def test_a_model_that_is_not_there_is_not_found_for_anybody(http: httpx.AsyncClient) -> None:
    for key in (ALICE, CAROL):
        response = await http.post("/v1/completions", json={**ASK, "model": "x"}, headers=bearer(key))
        assert (response.status_code, error_of(response)["code"]) == (404, "model_not_found")


async def test_a_key_at_its_limit_is_told_when_to_retry(
    http: httpx.AsyncClient, backend: ScriptedBackend
) -> None:
    pause = asyncio.Event()
    backend.scripts.append([pause, (2,)])
    first = asyncio.create_task(http.post("/v1/completions", json=ASK, headers=bearer(BOB)))
    await backend.session(0)
    refused = await http.post("/v1/completions", json={**ASK, "stream": True}, headers=bearer(BOB))
    assert (refused.status_code, error_of(refused)["code"]) == (429, "key_limit_reached")
    assert int(refused.headers["retry-after"]) >= 1
    assert (await http.post("/v1/completions", json=ASK, headers=bearer(ALICE))).status_code == 200
    pause.set()
    assert (await first).status_code == 200
    assert (await http.post("/v1/completions", json=ASK, headers=bearer(BOB))).status_code == 200


async def test_a_client_that_goes_away_gives_its_room_back(
    http: httpx.AsyncClient, backend: ScriptedBackend
) -> None:
    backend.scripts.append([(5,), asyncio.Event()])
    body = {**ASK, "stream": True}
    async with http.stream("POST", "/v1/completions", json=body, headers=bearer(BOB)) as response:
        await anext(response.aiter_lines())
    await (await backend.session(0)).closed.wait()
    async with asyncio.timeout(60):
        while (await http.post("/v1/completions", json=ASK, headers=bearer(BOB))).status_code == 429:
            await asyncio.sleep(0.01)


async def test_request_ids_of_different_keys_do_not_meet(
    http: httpx.AsyncClient, backend: ScriptedBackend
) -> None:
    pause = asyncio.Event()
    backend.scripts.append([pause, (2,)])
    same = {"x-request-id": "same"}
    first = asyncio.create_task(http.post("/v1/completions", json=ASK, headers=bearer(ALICE) | same))
    await backend.session(0)
    own = await http.post("/v1/completions", json=ASK, headers=bearer(ALICE_NEW) | same)
    assert (own.status_code, error_of(own)["code"]) == (409, "request_id_active")
    others = await http.post("/v1/completions", json=ASK, headers=bearer(BOB) | same)
    assert (others.status_code, others.headers["x-request-id"]) == (200, "same")
    pause.set()
    assert (await first).status_code == 200


async def test_the_key_comes_before_the_body_which_may_still_come(http_url: str) -> None:
    size = 4 * 2**20
    head = f"POST /v1/completions HTTP/1.1\r\nHost: a\r\nContent-Length: {size}\r\n\r\n"
    async with connection(http_url) as (reader, writer):
        writer.write(head.encode())
        async with asyncio.timeout(60):
            assert status_of(await reader.readuntil(b"\r\n\r\n")) == 401
        writer.write(b" " * size + b"GET /v1/models HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        assert b"HTTP/1.1 401 " in await until_closed(reader)


async def test_no_key_is_ever_logged(http: httpx.AsyncClient, capfd: pytest.CaptureFixture[str]) -> None:
    wrong = "ps-wrong-0123456789abc"
    with capture_logs() as logs:
        for key in (ALICE, BOB, wrong):
            await http.post("/v1/completions", json=ASK, headers=bearer(key))
            await http.post("/v1/completions", json={**ASK, "model": key}, headers=bearer(key))
    said = json.dumps(logs, default=str) + "".join(capfd.readouterr())
    assert not [key for key in (ALICE, BOB, wrong) if key in said]


async def test_other_sites_get_no_leave_from_browsers(http: httpx.AsyncClient) -> None:
    ask = {"Origin": "https://elsewhere.example", "Access-Control-Request-Method": "POST"}
    preflight = await http.options("/v1/completions", headers=bearer(ALICE) | ask)
    assert preflight.status_code == 405
    answer = await http.post("/v1/completions", json=ASK, headers=bearer(ALICE) | ask)
    for response in (preflight, answer):
        assert not [name for name in response.headers if name.startswith("access-control")]
