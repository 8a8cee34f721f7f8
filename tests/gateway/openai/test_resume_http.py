"""Resuming over HTTP: connections cut anywhere, and what cannot be resumed."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx
import pytest

from gateway.openai.asking import ASK, CHAT, error_of, post
from gateway.openai.listening import (
    RESUMABLE,
    SAID,
    Heard,
    eventually,
    gateway,
    hear,
    plain,
    resumed,
    started,
)
from gateway.resume.fellows import MemoryBus
from gateway.scripted_backend import ScriptedBackend
from pipespec.gateway.openai import create_app, serve_http
from pipespec.gateway.resume import ResumeService
from pipespec.gateway.text import TextModel
from pipespec.ops.errors import SessionLost
from pipespec.ops.pipeline import GatewaySettings
from pipespec.protocol.messages import EndReason


@pytest.mark.parametrize(
    ("body", "path"),
    [
        ({**ASK, **RESUMABLE}, "/v1/completions"),
        ({**CHAT, **RESUMABLE, "n": 2, "include_stats": True}, "/v1/chat/completions"),
        ({**ASK, **RESUMABLE, "stream_options": {"include_usage": True}}, "/v1/completions"),
    ],
    ids=["completion", "chat with two choices", "usage"],
)
async def test_cut_after_any_event_the_rest_is_what_would_have_come(
    http: httpx.AsyncClient, body: Any, path: str
) -> None:
    async with started(http, body, path) as response:
        whole = await hear(response)
    assert whole.is_done
    assert whole.sequence == list(range(len(whole.events)))
    assert all(id_.startswith(f"{whole.stream}.") for id_ in whole.ids)
    for cut in range(len(whole.events) + 1):
        async with started(http, body, path) as response:
            first = (
                await hear(response, events=cut)
                if cut
                else Heard(stream=response.headers["x-pipespec-stream"])
            )
        async with resumed(http, first.stream, first.ids[-1] if cut else None) as response:
            rest = await hear(response)
        assert rest.is_done
        if body.get("n", 1) == 1:  # choices of one request take turns as they come
            assert plain(first) + plain(rest) == plain(whole)
        assert first.sequence + rest.sequence == whole.sequence
        assert sorted(first.token_ids + rest.token_ids) == sorted(whole.token_ids)


async def test_the_generation_goes_on_while_nobody_reads(
    http: httpx.AsyncClient, backend: ScriptedBackend, text: TextModel
) -> None:
    pause, ids = asyncio.Event(), text.encode(SAID)
    backend.scripts.append([tuple(ids[:2]), pause, *((token,) for token in [*ids[2:], 2])])
    async with started(http, {**ASK, **RESUMABLE}) as response:
        first = await hear(response, events=1)
    pause.set()
    session = await backend.session(0)
    await eventually(lambda: session.end is EndReason.STOP)
    async with resumed(http, first.stream, first.ids[-1]) as response:
        rest = await hear(response)
    assert (first.text + rest.text, rest.is_done) == (SAID, True)


async def test_a_stream_that_is_not_resumable_still_ends_with_its_connection(
    http: httpx.AsyncClient, backend: ScriptedBackend, resume: ResumeService
) -> None:
    backend.scripts.append([(5,), asyncio.Event()])
    async with started(http, {**ASK, "stream": True}) as response:
        heard = await hear(response, events=1)
    assert (heard.stream, heard.ids, resume.num_streams) == ("", [], 0)
    session = await backend.session(0)
    await asyncio.wait_for(session.closed.wait(), 60)
    assert session.end is EndReason.CANCELLED


async def test_after_the_grace_the_session_is_closed_and_the_stream_has_expired(
    backend: ScriptedBackend, text: TextModel, settings: GatewaySettings
) -> None:
    short = settings.model_copy(update={"resume_grace_s": 0.1})
    backend.default = [(5,), asyncio.Event()]
    async with gateway(backend, text, short, "g0", MemoryBus()) as (http, service):
        async with started(http, {**ASK, **RESUMABLE}) as response:
            first = await hear(response, events=1)
        session = await backend.session(0)
        await asyncio.wait_for(session.closed.wait(), 60)
        assert session.end is EndReason.CANCELLED
        response = await http.get(f"/v1/streams/{first.stream}", headers={"last-event-id": first.ids[-1]})
        assert (response.status_code, error_of(response)["code"]) == (410, "resume_expired")
        assert (service.num_streams, service.num_bytes, service.num_readers) == (0, 0, 0)


async def test_forged_and_foreign_names_are_refused(http: httpx.AsyncClient) -> None:
    async with started(http, {**ASK, **RESUMABLE}) as response:
        mine = await hear(response)
    forged = [f"g0.{0:032x}", mine.stream[:-1] + ("0" if mine.stream[-1] != "0" else "1")]
    for stream in forged:
        response = await http.get(f"/v1/streams/{stream}")
        assert (response.status_code, error_of(response)["code"]) == (410, "resume_expired")
    for stream in ("x", "g0.xyz", f"-.{0:032x}", f"g0.{0:032x}.-1", "g0..%2e%2e"):
        response = await http.get(f"/v1/streams/{stream}")
        assert (response.status_code, error_of(response)["code"]) == (400, "invalid_value"), stream
    for last in (f"{forged[0]}.3", f"{mine.stream}.999", "3"):
        response = await http.get(f"/v1/streams/{mine.stream}", headers={"last-event-id": last})
        assert (response.status_code, error_of(response)["code"]) == (400, "invalid_value"), last


async def test_a_complete_stream_says_done_as_often_as_it_is_asked(http: httpx.AsyncClient) -> None:
    async with started(http, {**ASK, **RESUMABLE}) as response:
        whole = await hear(response)
    for _ in range(2):
        async with resumed(http, whole.stream, whole.ids[-1]) as response:
            again = await hear(response)
        assert (again.status, again.events, again.is_done) == (200, [], True)


async def test_a_failed_stream_never_says_done(http: httpx.AsyncClient, backend: ScriptedBackend) -> None:
    pause = asyncio.Event()
    backend.scripts.append([(5,), pause, (6,), SessionLost("gone", code="session_lost")])
    async with started(http, {**ASK, **RESUMABLE}) as response:
        first = await hear(response, events=1)
    pause.set()
    async with resumed(http, first.stream, first.ids[-1]) as response:
        rest = await hear(response)
    assert (first.token_ids + rest.token_ids, rest.is_done) == ([5, 6], False)
    assert rest.error is not None
    assert rest.error["code"] == "session_lost"
    last = (first.ids + rest.ids)[-1]
    response = await http.get(f"/v1/streams/{first.stream}", headers={"last-event-id": last})
    assert (response.status_code, error_of(response)["code"]) == (503, "session_lost")


async def test_the_newer_of_two_clients_gets_the_stream_and_the_older_is_told(
    http: httpx.AsyncClient, backend: ScriptedBackend
) -> None:
    pause = asyncio.Event()
    backend.scripts.append([(5,), pause, (2,)])
    async with started(http, {**ASK, **RESUMABLE}) as response:
        older = asyncio.create_task(hear(response))
        stream = response.headers["x-pipespec-stream"]
        async with resumed(http, stream) as second:
            told = await asyncio.wait_for(older, 60)
            pause.set()
            newer = await hear(second)
    assert told.error is not None
    assert (told.error["code"], told.is_done) == ("resumed_elsewhere", False)
    assert (newer.token_ids, newer.is_done) == ([5, 2], True)


async def test_a_client_ends_its_stream_with_delete(
    http: httpx.AsyncClient, backend: ScriptedBackend
) -> None:
    backend.scripts.append([(5,), asyncio.Event()])
    async with started(http, {**ASK, **RESUMABLE}) as response:
        first = await hear(response, events=1)
    assert (await http.delete(f"/v1/streams/{first.ids[-1]}")).status_code == 204
    session = await backend.session(0)
    await asyncio.wait_for(session.closed.wait(), 60)
    assert session.end is EndReason.CANCELLED
    response = await http.get(f"/v1/streams/{first.stream}")
    assert (response.status_code, error_of(response)["code"]) == (499, "cancelled")
    response = await http.delete(f"/v1/streams/g0.{0:032x}")
    assert (response.status_code, error_of(response)["code"]) == (410, "resume_expired")


async def test_rapid_reconnects_leave_nothing_behind(
    backend: ScriptedBackend, text: TextModel, settings: GatewaySettings
) -> None:
    short = settings.model_copy(update={"resume_grace_s": 0.3})
    backend.default = [(token,) for token in [*text.encode(SAID), 2]]
    async with gateway(backend, text, short, "g0", MemoryBus()) as (http, service):
        async with started(http, {**ASK, **RESUMABLE}) as response:
            heard = await hear(response, events=1)
        stream, last, events = heard.stream, heard.ids[-1], len(heard.events)
        for _ in range(40):
            async with resumed(http, stream, last) as response:
                heard = await hear(response, events=1)
            events += len(heard.events)
            last = heard.ids[-1] if heard.ids else last
        assert events == int(last.rpartition(".")[2]) + 1
        await eventually(lambda: service.num_streams == 0)
        assert (service.num_bytes, service.num_readers, len(service._pumps)) == (0, 0, 0)


async def test_only_streams_can_be_resumable_and_only_where_it_is_on(
    http: httpx.AsyncClient, backend: ScriptedBackend, text: TextModel, settings: GatewaySettings
) -> None:
    response = await post(http, {**ASK, "resumable": True})
    assert (response.status_code, error_of(response)["param"]) == (400, "resumable")
    server = await serve_http(
        create_app(backend=backend, text=text, settings=settings, model_name="small"), "127.0.0.1", 0
    )
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{server.port}") as off:
        refused = [await post(off, {**ASK, **RESUMABLE}), await off.get(f"/v1/streams/g0.{0:032x}")]
    await server.stop(grace_s=0)
    assert [(r.status_code, error_of(r)["code"]) for r in refused] == [(400, "unsupported_parameter")] * 2
    assert backend.opened == []


async def test_another_method_is_told_all_that_there_are(http: httpx.AsyncClient) -> None:
    response = await http.post("/v1/streams/x")
    assert (response.status_code, response.headers["allow"]) == (405, "DELETE, GET")
