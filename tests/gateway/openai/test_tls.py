"""HTTP over TLS, with certificates that change while it serves."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from gateway.access.keys import check_tls_1_2_is_the_least, common_name, lay_certificate, trusting
from gateway.openai.asking import ASK
from gateway.openai.raw import TIMEOUT_S, exchange
from gateway.scripted_backend import ScriptedBackend
from pipespec.gateway.access import Certificate
from pipespec.gateway.openai import create_app, serve_http
from pipespec.gateway.text import TextModel
from pipespec.ops.pipeline import GatewaySettings


@pytest.fixture
def certificate(tmp_path: Path) -> Certificate:
    return Certificate(*lay_certificate("first", tmp_path))


@pytest.fixture
async def port(
    backend: ScriptedBackend, text: TextModel, settings: GatewaySettings, certificate: Certificate
) -> AsyncIterator[int]:
    app = create_app(backend=backend, text=text, settings=settings, model_name="small")
    server = await serve_http(app, "127.0.0.1", 0, certificate=certificate)
    yield server.port
    await server.stop(grace_s=0)


async def test_a_stream_comes_over_tls(port: int) -> None:
    async with httpx.AsyncClient(base_url=f"https://127.0.0.1:{port}", verify=trusting()) as client:
        response = await client.post("/v1/completions", json={**ASK, "stream": True})
    assert response.status_code == 200
    assert response.text.endswith("data: [DONE]\n\n")


async def test_nothing_is_served_in_plain(port: int) -> None:
    answer = await exchange(f"http://127.0.0.1:{port}", b"GET /livez HTTP/1.1\r\nHost: a\r\n\r\n")
    assert b"HTTP/1.1 200" not in answer


@pytest.mark.filterwarnings("ignore:.*TLSv1_1 is deprecated:DeprecationWarning")
async def test_tls_1_1_is_refused_and_1_2_is_not(port: int) -> None:
    await check_tls_1_2_is_the_least(port)


async def test_a_new_certificate_counts_for_new_connections_and_leaves_old_ones_alone(
    port: int, certificate: Certificate, tmp_path: Path
) -> None:
    async with httpx.AsyncClient(base_url=f"https://127.0.0.1:{port}", verify=trusting()) as client:
        assert (await client.get("/livez")).status_code == 200
        assert await common_name(port, trusting()) == "first"
        lay_certificate("second", tmp_path)
        certificate.load()
        assert await common_name(port, trusting()) == "second"
        assert (await client.get("/livez")).status_code == 200


async def test_a_handshake_that_does_not_come_is_given_up(
    backend: ScriptedBackend,
    text: TextModel,
    settings: GatewaySettings,
    certificate: Certificate,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("pipespec.gateway.openai.server.HANDSHAKE_TIMEOUT_S", 0.1)
    app = create_app(backend=backend, text=text, settings=settings, model_name="small")
    server = await serve_http(app, "127.0.0.1", 0, certificate=certificate)
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    async with asyncio.timeout(TIMEOUT_S):
        assert await reader.read() == b""
    writer.close()
    await writer.wait_closed()
    await server.stop(grace_s=0)
