"""The ZeroMQ edge with keys: only listed clients get in, and the gateway knows whose key a request came with."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path

import pytest

from gateway.access.keys import key_ring
from gateway.scripted_backend import ScriptedBackend
from pipespec.bus.guard import BROKEN_OFF, NO_CURVE, UNLISTED, WRONG_SERVER_KEY
from pipespec.bus.key_folder import KeyFolder
from pipespec.bus.keys import KeyPair
from pipespec.client import AsyncClient, Curve
from pipespec.client.request import Request
from pipespec.client.zmq_transport import ZmqTransport
from pipespec.gateway.text import TextModel
from pipespec.gateway.zmq import ZmqServer, serve_zmq
from pipespec.gateway.zmq.router import Router
from pipespec.ops.errors import RequestError, SettingsError, Unavailable
from pipespec.ops.pipeline import GatewaySettings

SAID = "Hello 👍🏽 world!"
UNKNOWN = f"g0.{0:032x}"
_PATIENCE_S = 60


@pytest.fixture
def folder(tmp_path: Path) -> KeyFolder:
    made = KeyFolder(tmp_path / "keys")
    made.create("alice", num_servers=1)
    made.add("bob")
    return made


@pytest.fixture
async def server(
    backend: ScriptedBackend, text: TextModel, settings: GatewaySettings, folder: KeyFolder
) -> AsyncIterator[ZmqServer]:
    server = await serve_zmq(
        backend=backend,
        text=text,
        settings=settings.model_copy(update={"zmq_keys": folder.server}),
        model_name="small",
        host="127.0.0.1",
        port=0,
    )
    yield server
    await server.stop(grace_s=0)


def curve_of(folder: KeyFolder, name: str) -> Curve:
    return Curve.from_folder(folder.client(name))


def stranger(folder: KeyFolder) -> Curve:
    pair = KeyPair.new()
    return replace(curve_of(folder, "alice"), public=pair.public.decode(), secret=pair.secret.decode())


def mistaken(folder: KeyFolder) -> Curve:
    return replace(curve_of(folder, "alice"), server=KeyPair.new().public.decode())


async def test_a_listed_client_is_answered(server: ZmqServer, folder: KeyFolder) -> None:
    async with AsyncClient(f"zmq://127.0.0.1:{server.port}", curve=curve_of(folder, "alice")) as client:
        assert (await client.generate("hello")).text == SAID


@pytest.mark.parametrize(
    ("intruder", "reasons", "said"),
    [
        (None, (NO_CURVE, BROKEN_OFF), "asks for a key"),
        (stranger, (UNLISTED,), "refused the key"),
        (mistaken, (WRONG_SERVER_KEY,), "handshakes break off"),
    ],
    ids=["without CURVE", "unlisted key", "wrong server key"],
)
async def test_an_intruder_is_refused_told_why_and_counted_and_others_go_on(
    server: ZmqServer,
    backend: ScriptedBackend,
    folder: KeyFolder,
    intruder: Callable[[KeyFolder], Curve] | None,
    reasons: tuple[str, ...],
    said: str,
) -> None:
    curve = None if intruder is None else intruder(folder)
    foe = ZmqTransport(f"127.0.0.1:{server.port}", curve=curve, silence_s=1.0)
    try:
        with pytest.raises(Unavailable, match=said):
            await asyncio.wait_for(anext(foe.events(Request(text="hello"))), _PATIENCE_S)
    finally:
        await foe.close()
    assert server.guard is not None
    assert sum(server.guard.refused[reason] for reason in reasons) >= 1
    assert not backend.opened
    async with AsyncClient(f"zmq://127.0.0.1:{server.port}", curve=curve_of(folder, "bob")) as client:
        assert (await client.generate("hello")).text == SAID


async def test_a_refused_client_may_ask_again_once_it_is_listed(
    server: ZmqServer, folder: KeyFolder, tmp_path: Path
) -> None:
    other = KeyFolder(tmp_path / "other")
    other.create("carol", num_servers=1)
    curve = replace(curve_of(other, "carol"), server=curve_of(folder, "alice").server)
    async with AsyncClient(f"zmq://127.0.0.1:{server.port}", curve=curve) as client:
        with pytest.raises(Unavailable, match="refused the key"):
            await client.generate("hello")
        (folder.server / "carol.1.key").write_bytes((other.server / "carol.1.key").read_bytes())
        async with asyncio.timeout(_PATIENCE_S):
            while True:
                try:
                    assert (await client.generate("hello")).text == SAID
                    break
                except Unavailable:
                    await asyncio.sleep(0.1)


async def test_every_message_says_whose_key_it_came_with(folder: KeyFolder) -> None:
    router = Router("127.0.0.1", 0, keys=folder.server)
    transports = [
        ZmqTransport(f"127.0.0.1:{router.port}", curve=curve_of(folder, name)) for name in ("alice", "bob")
    ]
    asking = [asyncio.ensure_future(anext(one.events(Request(text="hello")))) for one in transports]
    heard = [(await asyncio.wait_for(router.receive(), _PATIENCE_S)).client for _ in asking]
    for one in asking:
        one.cancel()
    await asyncio.gather(*asking, return_exceptions=True)
    for transport in transports:
        await transport.close()
    await router.close()
    assert sorted(heard) == ["alice", "bob"]


async def test_a_client_has_the_rights_of_the_api_keys_of_its_name_and_without_them_none(
    backend: ScriptedBackend, text: TextModel, settings: GatewaySettings, folder: KeyFolder
) -> None:
    folder.add("carol")
    folder.add("dave")
    server = await serve_zmq(
        backend=backend,
        text=text,
        settings=settings.model_copy(update={"zmq_keys": folder.server}),
        model_name="small",
        host="127.0.0.1",
        port=0,
        keys=key_ring(),
    )
    url = f"zmq://127.0.0.1:{server.port}"
    async with AsyncClient(url, curve=curve_of(folder, "carol")) as carol:
        with pytest.raises(RequestError, match="may not use the model 'small'"):
            await carol.generate("hello")
    async with AsyncClient(url, curve=curve_of(folder, "alice")) as alice:
        assert (await alice.generate("hello")).text == SAID
    async with AsyncClient(url, curve=curve_of(folder, "dave")) as dave:
        for asked in (dave.generate("x"), anext(dave.resume(UNKNOWN)), dave.cancel_stream(UNKNOWN)):
            with pytest.raises(RequestError, match="nobody named 'dave'") as caught:
                await asked
            assert caught.value.code == "invalid_api_key"
    assert len(backend.opened) == 1
    await server.stop(grace_s=0)


def test_keys_for_grpc_are_refused(folder: KeyFolder) -> None:
    with pytest.raises(SettingsError, match="CURVE keys are for ZeroMQ"):
        AsyncClient("grpc://127.0.0.1:1", curve=curve_of(folder, "alice"))
