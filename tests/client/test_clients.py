"""The client library against the real servers, over both transports, with and without ``await``."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from gateway.scripted_backend import STATS, ScriptedBackend
from pipespec.client import AsyncClient, Client, Completion, Usage
from pipespec.gateway.text import ChatMessage, TextModel
from pipespec.ops.errors import Overloaded, RequestError, SessionLost, SettingsError, Unavailable
from pipespec.protocol.messages import EndReason
from pipespec.protocol.sampling import Sampling

SAID = "Hello 👍🏽 world!"


async def test_it_generates(url: str, backend: ScriptedBackend, text: TextModel) -> None:
    async with AsyncClient(url) as client:
        completion = await client.generate("hello", include_stats=True, request_id="r1")
    ids = (*text.encode(SAID), 2)
    usage = Usage(len(text.encode("hello")), len(ids))
    assert completion.stats[1].accepted == STATS[1].counters.accepted
    assert completion == Completion("r1", SAID, ids, "stop", usage, completion.stats)


async def test_it_streams(url: str, text: TextModel) -> None:
    async with AsyncClient(url) as client:
        stream = client.stream("hello")
        chunks = [chunk async for chunk in stream]
    assert "".join(chunk.text for chunk in chunks) == SAID == stream.completion.text
    assert [chunk.start for chunk in chunks if chunk.token_ids] == list(range(len(text.encode(SAID)) + 1))
    assert stream.completion.stats == ()


async def test_every_option_reaches_the_pipeline(url: str, backend: ScriptedBackend, text: TextModel) -> None:
    async with AsyncClient(url) as client:
        await client.generate(
            messages=[{"role": "user", "content": "hello"}],
            model="small",
            max_tokens=9,
            temperature=0.8,
            top_p=0.9,
            top_k=7,
            min_p=0.05,
            seed=2**64 - 1,
            repetition_penalty=1.1,
            presence_penalty=0.5,
            frequency_penalty=-0.5,
            logit_bias={9: 1.5, 5: -100},
            stop="zzz",
            speculate=False,
            ignore_eos=True,
            timeout_s=60,
        )
    (stream,) = backend.opened
    assert stream.prompt == tuple(text.render_chat([ChatMessage("user", "hello")]))
    assert not stream.speculate
    assert stream.sampling == Sampling(
        max_tokens=9,
        temperature=0.8,
        top_p=0.9,
        top_k=7,
        min_p=0.05,
        seed=2**64 - 1,
        repetition_penalty=1.1,
        presence_penalty=0.5,
        frequency_penalty=-0.5,
        logit_bias=((5, -100.0), (9, 1.5)),
    )


async def test_options_that_are_left_out_are_the_gateways_defaults(
    url: str, backend: ScriptedBackend
) -> None:
    async with AsyncClient(url) as client:
        await client.generate(token_ids=[5, 6])
    (stream,) = backend.opened
    assert stream.prompt == (5, 6)
    assert stream.speculate
    seed = stream.sampling.seed
    assert stream.sampling == Sampling(temperature=1.0, max_tokens=64, seed=seed, stop_ids=(2,))


async def test_a_stop_string_ends_the_text(url: str) -> None:
    async with AsyncClient(url) as client:
        completion = await client.generate("hello", stop=[" world"])
    assert (completion.text, completion.finish_reason) == ("Hello 👍🏽", "stop")


async def test_many_requests_at_once_do_not_mix(url: str, backend: ScriptedBackend, text: TextModel) -> None:
    words = [f"word {number} 😀" for number in range(8)]
    backend.scripts.extend([(token,) for token in [*text.encode(word), 2]] for word in words)
    async with AsyncClient(url) as client:
        completions = await asyncio.gather(*(client.generate("hello") for _ in words))
    assert sorted(completion.text for completion in completions) == words


@pytest.mark.parametrize(
    ("refusal", "kind"),
    [
        (Overloaded("full", retry_after_s=2.5), Overloaded),
        (Unavailable("no target", code="no_target_available"), Unavailable),
        (SessionLost("lost", code="session_lost"), SessionLost),
    ],
)
async def test_errors_arrive_as_what_they_were(
    url: str, backend: ScriptedBackend, refusal: RequestError, kind: type[RequestError]
) -> None:
    backend.refusal = refusal
    async with AsyncClient(url) as client:
        with pytest.raises(kind) as caught:
            await client.generate("hello")
    assert type(caught.value) is kind
    assert (caught.value.code, str(caught.value)) == (refusal.code, str(refusal))
    assert caught.value.retriable
    if isinstance(refusal, Overloaded):
        assert caught.value.retry_after_s == 2.5  # type: ignore[attr-defined]  # an Overloaded


async def test_a_bad_value_is_named(url: str) -> None:
    async with AsyncClient(url) as client:
        with pytest.raises(RequestError) as caught:
            await client.generate("hello", temperature=-1)
        assert (caught.value.code, caught.value.param) == ("invalid_value", "temperature")
        with pytest.raises(RequestError) as caught:
            await client.generate("hello", model="other")
        assert caught.value.code == "model_not_found"
        with pytest.raises(RequestError, match="wrong type"):
            await client.generate("hello", max_tokens=object())  # type: ignore[arg-type]  # on purpose
        assert (await client.generate("hello")).text == SAID, "the connection still works"


@pytest.mark.parametrize("prompts", [{}, {"prompt": "a", "token_ids": [5]}])
async def test_exactly_one_prompt_is_expected(url: str, prompts: Any) -> None:
    async with AsyncClient(url) as client:
        with pytest.raises(RequestError, match="exactly one"):
            client.stream(**prompts)


async def test_a_session_lost_on_the_way_raises_after_its_chunks(url: str, backend: ScriptedBackend) -> None:
    backend.default = [(5,), SessionLost("no target can go on", code="session_lost")]
    async with AsyncClient(url) as client:
        stream = client.stream("hello")
        await anext(stream)
        with pytest.raises(SessionLost):
            await anext(stream)
        with pytest.raises(RequestError, match="not been read"):
            _ = stream.completion


async def test_leaving_a_stream_cancels_its_session(url: str, backend: ScriptedBackend) -> None:
    backend.default = [(5,), asyncio.Event()]
    async with AsyncClient(url) as client:
        async with client.stream("hello") as stream:
            await anext(stream)
        await asyncio.wait_for(backend.opened[0].closed.wait(), 10)
    assert backend.opened[0].end is EndReason.CANCELLED


async def test_a_cancelled_generate_cancels_its_session(url: str, backend: ScriptedBackend) -> None:
    backend.default = [asyncio.Event()]
    async with AsyncClient(url) as client:
        task = asyncio.create_task(client.generate("hello"))
        session = await backend.session(0)
        task.cancel()
        await asyncio.wait({task})
        await asyncio.wait_for(session.closed.wait(), 10)


async def test_closing_the_client_cancels_its_sessions(url: str, backend: ScriptedBackend) -> None:
    backend.default = [(5,), asyncio.Event()]
    client = AsyncClient(url)
    stream = client.stream("hello")
    await anext(stream)
    await client.close()
    await asyncio.wait_for(backend.opened[0].closed.wait(), 10)
    with pytest.raises((RequestError, asyncio.CancelledError)):
        await anext(stream)


async def test_cancel_by_id_ends_the_stream_with_an_error(url: str, backend: ScriptedBackend) -> None:
    backend.default = [(5,), asyncio.Event()]
    async with AsyncClient(url) as client:
        stream = client.stream("hello", request_id="r1")
        await anext(stream)
        await client.cancel("r1")
        with pytest.raises(RequestError) as caught:
            await anext(stream)
        assert caught.value.code == "cancelled"
        with pytest.raises(RequestError) as caught:
            await client.cancel("r1")
        assert caught.value.code == "request_not_found"
    assert backend.opened[0].end is EndReason.CANCELLED


async def test_an_active_request_id_is_refused(url: str, backend: ScriptedBackend) -> None:
    backend.default = [(5,), asyncio.Event()]
    async with AsyncClient(url) as client, client.stream("hello", request_id="r1") as first:
        await anext(first)
        with pytest.raises(RequestError) as caught:
            await client.generate("hello", request_id="r1")
    assert caught.value.code == "request_id_active"


async def test_a_timeout_ends_the_request_here_and_there(url: str, backend: ScriptedBackend) -> None:
    backend.default = [asyncio.Event()]
    async with AsyncClient(url) as client:
        with pytest.raises(RequestError) as caught:
            await client.generate("hello", timeout_s=0.1)
        assert caught.value.code == "deadline_exceeded"
        await asyncio.wait_for(backend.opened[0].closed.wait(), 10)


async def test_a_gateway_that_is_not_there_is_unavailable() -> None:
    async with AsyncClient("grpc://127.0.0.1:1") as client:
        with pytest.raises(Unavailable) as caught:
            await client.generate("hello")
    assert caught.value.code == "gateway_unreachable"


@pytest.mark.parametrize(
    "bad",
    ["http://127.0.0.1:1", "127.0.0.1:1", "grpc://127.0.0.1", "zmq://:5", "grpc://h:1/x", "grpc://h:x", ""],
)
def test_other_urls_are_refused(bad: str) -> None:
    with pytest.raises(SettingsError, match="expected grpc://"):
        AsyncClient(bad)


async def test_the_blocking_client_does_the_same(url: str, backend: ScriptedBackend) -> None:
    def use() -> None:
        with Client(url) as client:
            assert client.generate("hello", max_tokens=50).text == SAID
            with client.stream("hello") as stream:
                assert "".join(chunk.text for chunk in stream) == SAID
                assert stream.completion.finish_reason == "stop"
            with pytest.raises(RequestError, match="temperature"):
                client.generate("hello", temperature=-1)
        client.close()

    await asyncio.to_thread(use)


async def test_leaving_a_blocking_stream_cancels_its_session(url: str, backend: ScriptedBackend) -> None:
    backend.default = [(5,), asyncio.Event()]

    def use() -> None:
        with Client(url) as client:
            with client.stream("hello") as stream:
                next(stream)
            with client.stream("hello", request_id="r2") as stream:
                next(stream)
                stream.cancel()
                with pytest.raises(RequestError, match="cancelled"):
                    next(stream)

    await asyncio.to_thread(use)
    assert [stream.end for stream in backend.opened] == [EndReason.CANCELLED] * 2
