"""A stream belongs to who asked for it: with another's key its name names nothing, at its owner and anywhere else."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any, Protocol

import httpx
import pytest

from gateway.access.keys import ALICE, BOB, bearer, key_ring
from gateway.openai.asking import ASK, error_of
from gateway.openai.listening import RESUMABLE, hear
from gateway.resume.fellows import MemoryBus, keeping
from gateway.scripted_backend import ScriptedBackend
from pipespec.bus.key_folder import KeyFolder
from pipespec.client import AsyncClient, Curve
from pipespec.gateway.access import KeyRing
from pipespec.gateway.grpc import serve_grpc
from pipespec.gateway.openai import create_app, serve_http
from pipespec.gateway.resume import StreamToken
from pipespec.gateway.text import TextModel
from pipespec.gateway.zmq import serve_zmq
from pipespec.ops.errors import RequestError
from pipespec.ops.pipeline import GatewaySettings


class Client(Protocol):
    """Somebody with a key, at one gateway."""

    async def begin(self) -> str:
        """Ask for a resumable stream; the name of its first event."""

    async def read(self, resume_id: str) -> list[int]:
        """The tokens that follow."""

    async def cancel(self, resume_id: str) -> None:
        """End the stream."""


class HttpClient:
    def __init__(self, port: int, key: str, stack: AsyncExitStack) -> None:
        self._http = httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", headers=bearer(key), timeout=60)
        stack.push_async_callback(self._http.aclose)

    async def begin(self) -> str:
        async with self._http.stream("POST", "/v1/completions", json={**ASK, **RESUMABLE}) as response:
            return (await hear(response, events=1)).ids[0]

    async def read(self, resume_id: str) -> list[int]:
        path, headers = f"/v1/streams/{resume_id.rpartition('.')[0]}", {"last-event-id": resume_id}
        async with self._http.stream("GET", path, headers=headers) as response:
            await self._check(response)
            return (await hear(response)).token_ids

    async def cancel(self, resume_id: str) -> None:
        await self._check(await self._http.delete(f"/v1/streams/{resume_id}"))

    async def _check(self, response: httpx.Response) -> None:
        if not response.is_success:
            await response.aread()
            raise RequestError("refused", code=error_of(response)["code"])


class LibraryClient:
    def __init__(self, client: AsyncClient, stack: AsyncExitStack) -> None:
        self._client = client
        self._stack = stack

    async def begin(self) -> str:
        stream = self._client.stream("hello", resumable=True)
        self._stack.push_async_callback(stream.aclose)
        return (await anext(stream)).resume_id or ""

    async def read(self, resume_id: str) -> list[int]:
        async with self._client.resume(resume_id) as stream:
            return [token async for chunk in stream for token in chunk.token_ids]

    async def cancel(self, resume_id: str) -> None:
        await self._client.cancel_stream(resume_id)


Connect = Callable[[str, str], Client]
"""The client of a name at a gateway."""
SECRETS = {"alice": ALICE, "bob": BOB}


@asynccontextmanager
async def fleet(
    scheme: str, backend: ScriptedBackend, text: TextModel, settings: GatewaySettings, keys: Path
) -> AsyncIterator[Connect]:
    """Two gateways of one fleet, g0 and g1, with keys."""
    bus, ports = MemoryBus(), {}
    folder = KeyFolder(keys)
    folder.create("alice", num_servers=1)
    folder.add("bob")
    async with AsyncExitStack() as stack:
        for replica in ("g0", "g1"):
            service = await stack.enter_async_context(keeping(settings, replica, bus))
            ring: KeyRing | None = None if scheme == "zmq alone" else key_ring()
            asked: Any = {"backend": backend, "text": text, "model_name": "small", "keys": ring}
            asked |= {"resume": service, "settings": settings.model_copy(update={"zmq_keys": folder.server})}
            at: Any = {"host": "127.0.0.1", "port": 0}
            if scheme == "http":
                server: Any = await serve_http(create_app(**asked), **at)
            else:
                server = await (serve_grpc if scheme == "grpc" else serve_zmq)(**asked, **at)
            ports[replica] = server.port
            stack.push_async_callback(server.stop, grace_s=0)

        def connect(name: str, replica: str) -> Client:
            if scheme == "http":
                return HttpClient(ports[replica], SECRETS[name], stack)
            address, key = f"127.0.0.1:{ports[replica]}", SECRETS[name]
            if scheme == "grpc":
                client = AsyncClient(f"grpc://{address}", api_key=key)
            else:
                client = AsyncClient(f"zmq://{address}", curve=Curve.from_folder(folder.client(name)))
            stack.push_async_callback(client.close)
            return LibraryClient(client, stack)

        yield connect


@pytest.mark.parametrize("scheme", ["http", "grpc", "zmq", "zmq alone"])
@pytest.mark.parametrize("replica", ["g0", "g1"], ids=["its owner", "another gateway"])
async def test_a_stream_is_neither_read_nor_ended_with_the_key_of_another(
    backend: ScriptedBackend,
    text: TextModel,
    settings: GatewaySettings,
    tmp_path: Path,
    scheme: str,
    replica: str,
) -> None:
    pause = asyncio.Event()
    backend.default = [(5,), pause, (6,), (2,)]
    async with fleet(scheme, backend, text, settings, tmp_path) as connect:
        resume_id = await connect("alice", "g0").begin()
        bob = connect("bob", replica)
        for attempt in (bob.read, bob.cancel):
            with pytest.raises(RequestError) as caught:
                await attempt(resume_id)
            assert caught.value.code == "resume_expired"
        assert backend.opened[0].end is None
        reading = asyncio.create_task(connect("alice", replica).read(resume_id))
        pause.set()
        assert await asyncio.wait_for(reading, 60) == [6, 2]


@pytest.mark.parametrize("replica", ["g0", "g1"], ids=["its owner", "another gateway"])
@pytest.mark.parametrize("scheme", ["http", "grpc", "zmq", "zmq alone"])
async def test_its_own_principal_ends_a_stream_through_any_gateway(
    backend: ScriptedBackend,
    text: TextModel,
    settings: GatewaySettings,
    tmp_path: Path,
    scheme: str,
    replica: str,
) -> None:
    backend.default = [(5,), asyncio.Event()]
    async with fleet(scheme, backend, text, settings, tmp_path) as connect:
        resume_id = await connect("alice", "g0").begin()
        await connect("alice", replica).cancel(resume_id)
        await asyncio.wait_for(backend.opened[0].closed.wait(), 60)


def test_what_gateways_call_a_stream_differs_from_its_name_and_by_principal() -> None:
    token = StreamToken("g0", bytes(16))
    ids = {token.stream_of(principal) for principal in ("", "alice", "bob", "a" * 64, "a" * 63 + "b")}
    assert len(ids | {token.bits}) == 6
    assert {len(stream) for stream in ids} == {16}
