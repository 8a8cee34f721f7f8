"""The client library with keys and TLS, against a real gateway that asks for both."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from gateway.access.keys import ALICE, BOB, CA, CAROL, key_ring, lay_certificate
from gateway.scripted_backend import ScriptedBackend
from pipespec.client import AsyncClient, Client
from pipespec.gateway.access import Certificate
from pipespec.gateway.grpc import serve_grpc
from pipespec.gateway.text import TextModel
from pipespec.ops.errors import Overloaded, RequestError, SettingsError, Unavailable
from pipespec.ops.pipeline import GatewaySettings


@pytest.fixture
async def url(
    backend: ScriptedBackend, text: TextModel, settings: GatewaySettings, tmp_path: Path
) -> AsyncIterator[str]:
    server = await serve_grpc(
        backend=backend,
        text=text,
        settings=settings,
        model_name="small",
        host="127.0.0.1",
        port=0,
        keys=key_ring(),
        certificate=Certificate(*lay_certificate("first", tmp_path)),
    )
    yield f"grpcs://127.0.0.1:{server.port}"
    await server.stop(grace_s=0)


async def test_a_key_and_an_authority_let_it_in(url: str) -> None:
    async with AsyncClient(url, api_key=ALICE, ca=CA) as client:
        assert (await client.generate("hello")).finish_reason == "stop"


@pytest.mark.parametrize(
    ("key", "code"),
    [(None, "invalid_api_key"), ("ps-nobody-0123456789", "invalid_api_key"), (CAROL, "model_not_allowed")],
)
async def test_what_the_gateway_says_of_a_key_arrives(url: str, key: str | None, code: str) -> None:
    async with AsyncClient(url, api_key=key, ca=CA) as client:
        with pytest.raises(RequestError) as caught:
            await client.generate("hello")
    assert caught.value.code == code
    assert not caught.value.retriable


async def test_a_key_at_its_limit_may_be_retried(url: str, backend: ScriptedBackend) -> None:
    async with AsyncClient(url, api_key=BOB, ca=CA) as client, client.stream("hello") as running:
        await anext(running)
        with pytest.raises(Overloaded) as caught:
            await client.generate("hello")
    assert caught.value.code == "key_limit_reached"


async def test_a_request_is_cancelled_with_the_key_that_started_it(
    url: str, backend: ScriptedBackend
) -> None:
    async with (
        AsyncClient(url, api_key=ALICE, ca=CA) as alice,
        AsyncClient(url, api_key=BOB, ca=CA) as bob,
        alice.stream("hello") as running,
    ):
        await anext(running)
        with pytest.raises(RequestError, match="no request"):
            await bob.cancel(running.request_id)


async def test_a_gateway_that_no_trusted_authority_knows_gets_no_key(url: str) -> None:
    async with AsyncClient(url, api_key=ALICE) as client:
        with pytest.raises(Unavailable):
            await client.generate("hello", timeout_s=10)


async def test_tls_is_not_spoken_in_plain(url: str) -> None:
    async with AsyncClient(url.replace("grpcs", "grpc"), api_key=ALICE) as client:
        with pytest.raises(Unavailable):
            await client.generate("hello", timeout_s=10)


@pytest.mark.parametrize(
    ("url", "options", "said"),
    [
        ("grpc://127.0.0.1:1", {"ca": CA}, "authorities are for TLS"),
        ("zmq://127.0.0.1:1", {"ca": CA}, "authorities are for TLS"),
        ("zmq://127.0.0.1:1", {"api_key": ALICE}, "API keys are for gRPC"),
        ("grpcs://127.0.0.1:1", {"ca": Path("nowhere.crt")}, "cannot read the authorities in nowhere.crt"),
        ("grpc://127.0.0.1:1", {"api_key": f"{ALICE}\n"}, "printable ASCII"),
        ("grpc://127.0.0.1:1", {"api_key": f"{ALICE}é"}, "printable ASCII"),
    ],
)
def test_what_does_not_go_together_is_refused_without_saying_the_key(
    url: str, options: dict[str, object], said: str
) -> None:
    with pytest.raises(SettingsError, match=said) as caught:
        Client(url, **options)  # type: ignore[arg-type] # each case has its own
    assert ALICE not in str(caught.value)
