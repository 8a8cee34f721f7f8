"""Resuming over ZeroMQ, by a raw DEALER."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from gateway.resume.fellows import MemoryBus, keeping
from gateway.scripted_backend import ScriptedBackend
from gateway.zmq.test_zmq import SAID, Dealer
from pipespec.gateway.resume import ResumeService
from pipespec.gateway.text import TextModel
from pipespec.gateway.zmq import ZmqServer, serve_zmq
from pipespec.gateway.zmq.server import MAX_CANCELS
from pipespec.ops.pipeline import GatewaySettings
from pipespec.protocol.messages import EndReason


@pytest.fixture
async def server(
    backend: ScriptedBackend, text: TextModel, settings: GatewaySettings, resume: ResumeService
) -> AsyncIterator[ZmqServer]:
    server = await serve_zmq(
        backend=backend,
        text=text,
        settings=settings,
        model_name="small",
        host="127.0.0.1",
        port=0,
        resume=resume,
        client_timeout_s=0.4,
    )
    yield server
    await server.stop(grace_s=0)


@pytest.fixture
def dealer(server: ZmqServer) -> Any:
    dealer = Dealer(server.port)
    yield dealer
    dealer.close()


async def hear_all(dealer: Dealer) -> list[dict[str, Any]]:
    messages = [await dealer.hear()]
    while messages[-1]["type"] in ("started", "tokens"):
        messages.append(await dealer.hear())
    return messages


async def test_a_vanished_client_goes_on_after_any_message(server: ZmqServer, dealer: Dealer) -> None:
    await dealer.say("generate", id="r1", text="hello", resumable=True)
    started, *whole = await hear_all(dealer)
    assert (started["type"], started["id"]) == ("started", "r1")
    stream = started["resume_id"]
    names = [message["resume_id"] for message in whole[:-1]]
    assert names == [f"{stream}.{number}" for number in range(len(names))]
    assert (whole[-1]["type"], whole[-1].get("resume_id")) == ("done", None)
    assert "".join(message.get("text", "") for message in whole) == SAID
    for cut in range(len(whole) + 1):
        lost = Dealer(server.port)
        await lost.say("generate", id="r1", text="hello", resumable=True)
        begun = [await lost.hear() for _ in range(cut + 1)]
        lost.close()
        last = [message["resume_id"] for message in begun if "resume_id" in message][-1]
        await dealer.say("resume", id="again", resume_id=last)
        again, *rest = await hear_all(dealer)
        assert again == {**begun[0], "id": "again"}
        assert rest[-1]["type"] == "done"
        both = [*begun[1:], *rest] if cut < len(whole) else begun[1:]  # the end is said again
        assert [{**message, "id": "", "resume_id": ""} for message in both] == [
            {**message, "id": "", "resume_id": ""} for message in whole
        ]


async def test_what_cannot_be_resumed_is_an_error(dealer: Dealer) -> None:
    unknown = f"g0.{0:032x}"
    for type_, resume_id, code in [
        ("resume", unknown, "resume_expired"),
        ("resume", "x", "invalid_value"),
        ("cancel", unknown, "resume_expired"),
        ("cancel", "x", "invalid_value"),
    ]:
        await dealer.say(type_, id="r1", resume_id=resume_id)
        answer = await dealer.hear()
        assert (answer["type"], answer["id"], answer["code"]) == ("error", "r1", code)


async def test_a_silent_client_loses_its_request_but_not_its_stream(
    dealer: Dealer, backend: ScriptedBackend, resume: ResumeService
) -> None:
    pause = asyncio.Event()
    backend.scripts.append([(5,), pause, (2,)])
    await dealer.say("generate", id="r1", text="hello", resumable=True)
    tokens = [await dealer.hear(), await dealer.hear()][-1]
    async with asyncio.timeout(60):
        while resume.num_readers:
            await asyncio.sleep(0.02)
    assert backend.opened[0].end is None
    await dealer.say("ping", ids=["r1"])
    assert (await dealer.hear())["code"] == "request_not_found"
    await dealer.say("resume", id="r1", resume_id=tokens["resume_id"])
    pause.set()
    assert [message["type"] for message in await hear_all(dealer)] == ["started", "tokens", "done"]


async def test_cancel_by_id_or_by_stream_ends_the_generation(
    dealer: Dealer, backend: ScriptedBackend
) -> None:
    backend.default = [(5,), asyncio.Event()]
    names = []
    for request_id in ("r1", "r2"):
        await dealer.say("generate", id=request_id, text="hello", resumable=True)
        names.append([await dealer.hear(), await dealer.hear()][-1]["resume_id"])
    await dealer.say("cancel", id="r1")
    assert (await dealer.hear())["code"] == "cancelled"
    await dealer.say("cancel", id="c", resume_id=names[1])
    answers = [await dealer.hear(), await dealer.hear()]
    assert {(answer["id"], answer["code"]) for answer in answers} == {("r2", "cancelled"), ("c", "cancelled")}
    assert [session.end for session in backend.opened] == [EndReason.CANCELLED] * 2


async def test_a_client_ends_so_many_streams_at_once_and_no_more_and_others_go_on(
    server: ZmqServer, dealer: Dealer
) -> None:
    """Each of the first waits for a gateway that does not answer."""
    for number in range(3 * MAX_CANCELS):
        await dealer.say("cancel", id=f"c{number}", resume_id=f"g1.{number:032x}")
    refused = [await dealer.hear() for _ in range(2 * MAX_CANCELS)]
    assert [answer["id"] for answer in refused] == [f"c{n}" for n in range(MAX_CANCELS, 3 * MAX_CANCELS)]
    assert {(answer["code"], answer["kind"]) for answer in refused} == {("overloaded", "overloaded")}
    other = Dealer(server.port)
    await other.say("cancel", id="c", resume_id=f"g0.{0:032x}")
    assert (await other.hear())["code"] == "resume_expired"
    other.close()
    expired = [await dealer.hear() for _ in range(MAX_CANCELS)]
    assert {answer["code"] for answer in expired} == {"resume_expired"}
    await dealer.say("cancel", id="again", resume_id=f"g0.{0:032x}")
    assert (await dealer.hear())["code"] == "resume_expired"


async def test_where_it_is_off_it_is_refused(
    backend: ScriptedBackend, text: TextModel, settings: GatewaySettings
) -> None:
    server = await serve_zmq(
        backend=backend, text=text, settings=settings, model_name="small", host="127.0.0.1", port=0
    )
    dealer = Dealer(server.port)
    await dealer.say("generate", id="r1", text="hello", resumable=True)
    await dealer.say("resume", id="r2", resume_id=f"g0.{0:032x}")
    answers = [await dealer.hear(), await dealer.hear()]
    assert [answer["code"] for answer in answers] == ["unsupported_parameter"] * 2
    assert backend.opened == []
    dealer.close()
    await server.stop(grace_s=0)


async def test_a_server_that_stops_tells_the_readers_of_resumable_streams(
    backend: ScriptedBackend, text: TextModel, settings: GatewaySettings
) -> None:
    backend.default = [(5,), asyncio.Event()]
    async with keeping(settings, "g0", MemoryBus()) as service:
        server = await serve_zmq(
            backend=backend,
            text=text,
            settings=settings,
            model_name="small",
            host="127.0.0.1",
            port=0,
            resume=service,
        )
        dealer = Dealer(server.port)
        await dealer.say("generate", id="r1", text="hello", resumable=True)
        assert [(await dealer.hear())["type"] for _ in range(2)] == ["started", "tokens"]
        await server.stop(grace_s=0)
        assert (await dealer.hear())["code"] == "server_shutting_down"
        dealer.close()
    assert backend.opened[0].end is EndReason.CANCELLED
