"""The real ROUTER server, by a raw DEALER."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import msgpack
import pytest
import zmq
import zmq.asyncio
from structlog.testing import capture_logs

from gateway.scripted_backend import STATS, ScriptedBackend
from pipespec.gateway.generation import Generator
from pipespec.gateway.text import TextModel
from pipespec.gateway.zmq import ZmqServer, serve_zmq
from pipespec.gateway.zmq.offenders import MAX_OFFENCES
from pipespec.gateway.zmq.router import Received, Router
from pipespec.ops.errors import SessionLost, SettingsError, Unavailable
from pipespec.ops.pipeline import GatewaySettings
from pipespec.protocol.messages import EndReason

SAID = "Hello 👍🏽 world!"


class Dealer:
    """A client with nothing but a socket and msgpack."""

    def __init__(self, port: int, *, identity: bytes | None = None) -> None:
        self._context = zmq.asyncio.Context()
        self.socket = self._context.socket(zmq.DEALER)
        self.socket.setsockopt(zmq.LINGER, 0)
        if identity is not None:
            self.socket.setsockopt(zmq.IDENTITY, identity)
        self.socket.connect(f"tcp://127.0.0.1:{port}")

    async def say(self, type_: str, **fields: Any) -> None:
        await self.socket.send(msgpack.packb({"v": 1, "type": type_, **fields}))

    async def hear(self, *, skip_pongs: bool = True) -> dict[str, Any]:
        while True:
            (frame,) = await asyncio.wait_for(self.socket.recv_multipart(), 10)
            message = msgpack.unpackb(frame)
            assert message.pop("v") == 1
            if not (skip_pongs and message["type"] == "pong"):
                return dict(message)

    async def hear_all(self) -> list[dict[str, Any]]:
        messages = [await self.hear()]
        while messages[-1]["type"] == "tokens":
            messages.append(await self.hear())
        return messages

    def close(self) -> None:
        self._context.destroy(linger=0)


@pytest.fixture
async def server(
    backend: ScriptedBackend, text: TextModel, settings: GatewaySettings
) -> AsyncIterator[ZmqServer]:
    server = await serve_zmq(
        backend=backend, text=text, settings=settings, model_name="small", host="127.0.0.1", port=0
    )
    yield server
    await server.stop(grace_s=0)


@pytest.fixture
async def dealer(server: ZmqServer) -> AsyncIterator[Dealer]:
    dealer = Dealer(server.port)
    yield dealer
    dealer.close()


async def test_a_generation_is_tokens_and_then_done(dealer: Dealer, text: TextModel) -> None:
    await dealer.say("generate", id="a", text="hello", include_stats=True)
    *tokens, done = await dealer.hear_all()
    ids = [token for message in tokens for token in message["token_ids"]]
    assert "".join(message["text"] for message in tokens) == SAID
    assert ids == [*text.encode(SAID), 2]
    assert [message["start"] for message in tokens if message["token_ids"]] == list(range(len(ids)))
    assert (done["type"], done["id"], done["finish_reason"]) == ("done", "a", "stop")
    assert done["usage"] == {"prompt_tokens": len(text.encode("hello")), "completion_tokens": len(ids)}
    assert [stage["accepted"] for stage in done["stages"]] == [stats.counters.accepted for stats in STATS]


async def test_ping_is_answered_with_the_model(dealer: Dealer, backend: ScriptedBackend) -> None:
    await dealer.say("ping")
    assert await dealer.hear(skip_pongs=False) == {"type": "pong", "model": "small", "ready": True}
    backend.is_ready = False
    await dealer.say("ping")
    assert not (await dealer.hear(skip_pongs=False))["ready"]


async def test_requests_of_one_client_run_side_by_side(dealer: Dealer, backend: ScriptedBackend) -> None:
    pause = asyncio.Event()
    backend.scripts.extend([[pause, (2,)], [(2,)]])
    await dealer.say("generate", id="slow", text="x")
    await backend.session(0)
    await dealer.say("generate", id="fast", text="x")
    assert {message["id"] for message in await dealer.hear_all()} == {"fast"}
    pause.set()
    assert {message["id"] for message in await dealer.hear_all()} == {"slow"}


async def test_clients_may_use_the_same_ids(
    server: ZmqServer, dealer: Dealer, backend: ScriptedBackend
) -> None:
    other = Dealer(server.port)
    backend.default = [(5,), asyncio.Event()]
    for client in (dealer, other):
        await client.say("generate", id="a", text="x")
        assert (await client.hear())["type"] == "tokens"
    await other.say("cancel", id="a")
    assert (await other.hear())["code"] == "cancelled"
    await asyncio.wait_for(backend.opened[1].closed.wait(), 10)
    assert [stream.end for stream in backend.opened] == [None, EndReason.CANCELLED]
    other.close()


async def test_an_active_id_is_refused(dealer: Dealer, backend: ScriptedBackend) -> None:
    backend.default = [asyncio.Event()]
    await dealer.say("generate", id="a", text="x")
    await dealer.say("generate", id="a", text="x")
    error = await dealer.hear()
    assert (error["type"], error["id"], error["code"]) == ("error", "a", "request_id_active")


async def test_cancel_and_ping_of_unknown_ids_are_answered(dealer: Dealer) -> None:
    await dealer.say("cancel", id="a")
    await dealer.say("ping", ids=["b"])
    answers = [await dealer.hear(), await dealer.hear()]
    assert [(answer["id"], answer["code"]) for answer in answers] == [
        ("a", "request_not_found"),
        ("b", "request_not_found"),
    ]


def nested(depth: int) -> bytes:
    return b"\x91" * depth + b"\x90"


@pytest.mark.parametrize(
    "frames",
    [
        [b""],
        [b"\xc1"],
        [b"hello"],
        [b"\xff" * 1000],
        [nested(100_000)],
        [b"\xdf\xff\xff\xff\xff"],  # a map that claims four thousand million entries
        [msgpack.packb(msgpack.ExtType(1, b"x"))],
        [msgpack.packb([1])],
        [msgpack.packb({})],
        [msgpack.packb({"v": 1})],
        [msgpack.packb({"v": 2, "type": "ping"})],
        [msgpack.packb({"v": 1, "type": "nothing"})],
        [msgpack.packb({"v": 1, "type": "cancel"})],
        [msgpack.packb({"v": 1, "type": "ping", "ids": ["x"] * 1025})],
        [b"\x83\xa1v\x01\xa4type\xa4ping\xa1v\x01"],  # v twice
        [b"\x82\xa1v\x01\xa4type\xa4\xff\xff\xff\xff"],  # not UTF-8
        [msgpack.packb({"v": 1, "type": "ping"}), b""],
        [b"", msgpack.packb({"v": 1, "type": "ping"})],
        [msgpack.packb({1: 2, None: [{}]})],
    ],
)
async def test_malformed_messages_are_counted_and_answered_and_change_nothing(
    server: ZmqServer, dealer: Dealer, frames: list[bytes]
) -> None:
    await dealer.socket.send_multipart(frames)
    error = await dealer.hear()
    assert (error["type"], error["id"]) == ("error", None)
    assert server.num_malformed == 1
    await dealer.say("generate", id="a", text="hello")
    assert (await dealer.hear_all())[-1]["type"] == "done"


@pytest.mark.parametrize(
    ("fields", "code", "param"),
    [
        ({}, "invalid_value", "prompt"),
        ({"text": "x", "token_ids": [5]}, "invalid_value", "prompt"),
        ({"text": 5}, "invalid_value", "text"),
        ({"token_ids": [5, "x"]}, "invalid_value", "token_ids.1"),
        ({"token_ids": [330]}, "invalid_value", "prompt"),
        ({"messages": []}, "invalid_value", "messages"),
        ({"messages": [{"role": "wizard", "content": "x"}]}, "invalid_value", "messages.0.role"),
        ({"text": "x", "max_tokens": 0}, "invalid_value", "max_tokens"),
        ({"text": "x", "max_tokens": True}, "invalid_value", "max_tokens"),
        ({"text": "x", "max_tokens": 10**6}, "context_length_exceeded", "max_tokens"),
        ({"text": "x", "sampling": {"temperature": -1}}, "invalid_value", "temperature"),
        ({"text": "x", "sampling": {"temperature": float("nan")}}, "invalid_value", "sampling.temperature"),
        ({"text": "x", "sampling": {"heat": 1}}, "unsupported_parameter", "sampling.heat"),
        ({"text": "x", "stop": [""]}, "invalid_value", "stop"),
        ({"text": "x", "tools": []}, "unsupported_parameter", "tools"),
        ({"text": "x", "model": "other"}, "model_not_found", "model"),
        ({"text": "x", "timeout_s": -1.0}, "invalid_value", "timeout_s"),
    ],
)
async def test_bad_requests_are_answered_under_their_id(
    dealer: Dealer, backend: ScriptedBackend, fields: dict[str, Any], code: str, param: str
) -> None:
    await dealer.say("generate", id="a", **fields)
    error = await dealer.hear()
    assert (error["type"], error["id"], error["code"], error["param"]) == ("error", "a", code, param)
    assert backend.opened == []


async def test_a_message_over_the_limit_costs_its_sender_the_connection_only(
    server: ZmqServer, dealer: Dealer, backend: ScriptedBackend
) -> None:
    other = Dealer(server.port)
    await other.socket.send(b"x" * (2 * 2**20 + 1))
    await dealer.say("generate", id="a", text="hello")
    assert (await dealer.hear_all())[-1]["type"] == "done"
    other.close()


async def test_refusals_say_their_kind(dealer: Dealer, backend: ScriptedBackend) -> None:
    backend.refusal = Unavailable("no target", code="no_target_available")
    await dealer.say("generate", id="a", text="x")
    assert (await dealer.hear())["kind"] == "unavailable"
    backend.refusal = None
    backend.default = [(5,), SessionLost("lost", code="session_lost")]
    await dealer.say("generate", id="a", text="x")
    assert [message["type"] for message in await dealer.hear_all()] == ["tokens", "error"]


async def test_a_bug_of_ours_is_told_without_details(dealer: Dealer, backend: ScriptedBackend) -> None:
    backend.default = [RuntimeError("secret")]
    with capture_logs() as logs:
        await dealer.say("generate", id="a", text="x")
        error = await dealer.hear()
    assert [entry["event"] for entry in logs] == ["request_failed"]
    assert (error["code"], error["kind"]) == ("internal_error", "failed")
    assert "secret" not in error["message"]


@pytest.mark.parametrize("script", ["before the first token", "after it"])
async def test_a_client_that_disconnects_loses_its_session(
    server: ZmqServer, backend: ScriptedBackend, script: str
) -> None:
    backend.default = [asyncio.Event()] if script == "before the first token" else [(5,), asyncio.Event()]
    dealer = Dealer(server.port)
    await dealer.say("generate", id="a", text="x")
    session = await backend.session(0)
    dealer.close()
    await asyncio.wait_for(session.closed.wait(), 10)
    assert session.end is EndReason.CANCELLED


async def test_a_client_that_falls_silent_loses_its_session_and_one_that_pings_keeps_it(
    backend: ScriptedBackend, text: TextModel, settings: GatewaySettings
) -> None:
    backend.default = [asyncio.Event()]
    server = await serve_zmq(
        backend=backend,
        text=text,
        settings=settings,
        model_name="small",
        host="127.0.0.1",
        port=0,
        client_timeout_s=0.4,
    )
    silent, alive = Dealer(server.port), Dealer(server.port)
    await alive.say("generate", id="a", text="x")
    kept = await backend.session(0)
    await silent.say("generate", id="a", text="x")
    lost = await backend.session(1)
    while not lost.closed.is_set():
        await alive.say("ping", ids=["a"])
        await asyncio.wait({asyncio.create_task(lost.closed.wait())}, timeout=0.05)
    assert kept.end is None
    for dealer in (silent, alive):
        dealer.close()
    await server.stop(grace_s=0)


class OddRouter(Router):
    """Has trouble with the first client that it hears of, and a socket that breaks on demand."""

    def __init__(self) -> None:
        super().__init__("127.0.0.1", 0)
        self.odd: bytes | None = None
        self.is_broken = False

    async def receive(self) -> Received:
        received = await super().receive()
        if self.is_broken:
            raise zmq.ZMQError(zmq.ENOTSOCK)
        self.odd = self.odd or received.identity
        return received

    async def try_send(self, identity: bytes, frame: bytes) -> bool:
        if identity == self.odd:
            raise zmq.ZMQError(zmq.EINVAL)
        return await super().try_send(identity, frame)


async def test_a_client_that_cannot_be_told_loses_its_requests_and_nobody_else_does(
    backend: ScriptedBackend, text: TextModel, settings: GatewaySettings
) -> None:
    backend.default = [asyncio.Event()]
    generator = Generator(backend=backend, text=text, settings=settings, model_name="small", protocol="zmq")
    server = ZmqServer(OddRouter(), generator, client_timeout_s=0.2)
    odd, other = Dealer(server.port), Dealer(server.port)
    failed = asyncio.create_task(server.failed())
    with capture_logs() as logs:
        await odd.say("generate", id="a", text="x")
        lost = await backend.session(0)
        await asyncio.wait_for(lost.closed.wait(), 10)
    assert "client_failed" in [entry["event"] for entry in logs]
    await other.say("ping")
    assert (await other.hear(skip_pongs=False))["type"] == "pong"
    assert not failed.done()
    failed.cancel()
    for dealer in (odd, other):
        dealer.close()
    await server.stop(grace_s=0)


async def test_a_socket_that_breaks_is_told(
    backend: ScriptedBackend, text: TextModel, settings: GatewaySettings
) -> None:
    router = OddRouter()
    generator = Generator(backend=backend, text=text, settings=settings, model_name="small", protocol="zmq")
    server = ZmqServer(router, generator, client_timeout_s=10)
    router.is_broken = True
    dealer = Dealer(server.port)
    await dealer.say("ping")
    with pytest.raises(zmq.ZMQError):
        await asyncio.wait_for(server.failed(), 10)
    dealer.close()
    await server.stop(grace_s=0)


async def test_stopping_lets_running_requests_finish_and_refuses_new_ones(
    backend: ScriptedBackend, text: TextModel, settings: GatewaySettings
) -> None:
    pause = asyncio.Event()
    backend.default = [(5,), pause, (2,)]
    server = await serve_zmq(
        backend=backend, text=text, settings=settings, model_name="small", host="127.0.0.1", port=0
    )
    dealer = Dealer(server.port)
    await dealer.say("generate", id="a", text="x")
    await dealer.hear()
    stopping = asyncio.create_task(server.stop(grace_s=10))
    await asyncio.sleep(0)
    await dealer.say("generate", id="b", text="x")
    refused = await dealer.hear()
    assert (refused["id"], refused["code"]) == ("b", "server_shutting_down")
    pause.set()
    assert (await dealer.hear_all())[-1]["type"] == "done"
    await stopping
    dealer.close()


async def test_requests_left_at_the_end_of_the_grace_get_an_error(
    backend: ScriptedBackend, text: TextModel, settings: GatewaySettings
) -> None:
    backend.default = [(5,), asyncio.Event()]
    server = await serve_zmq(
        backend=backend, text=text, settings=settings, model_name="small", host="127.0.0.1", port=0
    )
    dealer = Dealer(server.port)
    await dealer.say("generate", id="a", text="x")
    await dealer.hear()
    stopping = asyncio.create_task(server.stop(grace_s=0))
    assert (await dealer.hear())["code"] == "server_shutting_down"
    await stopping
    assert backend.opened[0].end is EndReason.CANCELLED
    dealer.close()


async def test_a_port_in_use_is_a_settings_error(
    server: ZmqServer, backend: ScriptedBackend, text: TextModel, settings: GatewaySettings
) -> None:
    with pytest.raises(SettingsError, match="cannot serve ZeroMQ"):
        await serve_zmq(
            backend=backend, text=text, settings=settings, model_name="x", host="127.0.0.1", port=server.port
        )


async def test_a_client_that_goes_on_sending_rubbish_is_not_read_for_a_while_and_others_are(
    server: ZmqServer, dealer: Dealer, backend: ScriptedBackend
) -> None:
    other = Dealer(server.port)
    for _ in range(MAX_OFFENCES):
        await dealer.socket.send(b"\xc1")
    answers = [await dealer.hear() for _ in range(MAX_OFFENCES + 1)]
    assert "nothing is read from you" in answers[-1]["message"]
    await dealer.say("generate", id="a", text="hello")
    await other.say("generate", id="a", text="hello")
    assert (await other.hear_all())[-1]["type"] == "done"
    assert len(backend.opened) == 1
    other.close()


async def test_wrong_values_are_no_offence(dealer: Dealer) -> None:
    for _ in range(2 * MAX_OFFENCES):
        await dealer.say("generate", id="a", text=5)
        assert (await dealer.hear())["code"] == "invalid_value"
    await dealer.say("generate", id="a", text="hello")
    assert (await dealer.hear_all())[-1]["type"] == "done"
