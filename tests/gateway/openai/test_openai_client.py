"""The unmodified ``openai`` client against the real server."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import openai
import pytest

from gateway.scripted_backend import STATS, ScriptedBackend
from pipespec.gateway.text import ChatMessage, TextModel
from pipespec.ops.errors import Overloaded, Unavailable

SAID = "Hello 👍🏽 world!"
HELLO = [{"role": "user", "content": "hello"}]


@pytest.fixture
async def client(http_url: str) -> AsyncIterator[openai.AsyncOpenAI]:
    async with openai.AsyncOpenAI(base_url=f"{http_url}/v1", api_key="none", max_retries=0) as client:
        yield client


async def test_it_completes(client: openai.AsyncOpenAI, backend: ScriptedBackend, text: TextModel) -> None:
    answer = await client.completions.create(
        model="small", prompt="hello", max_tokens=50, seed=-1, temperature=0
    )
    assert answer.object == "text_completion"
    assert answer.choices[0].text == SAID
    assert answer.choices[0].finish_reason == "stop"
    assert answer.usage is not None
    assert answer.usage.prompt_tokens == len(text.encode("hello"))
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + len(text.encode(SAID)) + 1
    assert backend.opened[0].sampling.seed == 2**64 - 1
    assert backend.opened[0].sampling.is_greedy


async def test_it_chats(client: openai.AsyncOpenAI, backend: ScriptedBackend, text: TextModel) -> None:
    answer = await client.chat.completions.create(
        model="small",
        messages=[
            {"role": "developer", "content": "be kind"},
            {"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]},
        ],
        max_completion_tokens=50,
    )
    assert answer.object == "chat.completion"
    assert answer.choices[0].message.content == SAID
    assert answer.choices[0].message.role == "assistant"
    expected = text.render_chat([ChatMessage("system", "be kind"), ChatMessage("user", "a\nb")])
    assert backend.opened[0].prompt == tuple(expected)
    assert backend.opened[0].sampling.temperature == 1.0


async def test_it_streams_a_completion(client: openai.AsyncOpenAI) -> None:
    stream = await client.completions.create(model="small", prompt="hello", stream=True)
    chunks = [chunk async for chunk in stream]
    assert "".join(chunk.choices[0].text for chunk in chunks) == SAID
    assert [chunk.choices[0].finish_reason for chunk in chunks][-1] == "stop"
    assert len({chunk.id for chunk in chunks}) == 1


async def test_it_streams_a_chat_with_usage(client: openai.AsyncOpenAI, text: TextModel) -> None:
    stream = await client.chat.completions.create(
        model="small", messages=HELLO, stream=True, stream_options={"include_usage": True}
    )
    *chunks, last = [chunk async for chunk in stream]
    assert chunks[0].choices[0].delta.role == "assistant"
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == SAID
    assert chunks[-1].choices[0].finish_reason == "stop"
    assert all(chunk.usage is None for chunk in chunks)
    assert last.choices == []
    assert last.usage is not None
    assert last.usage.completion_tokens == len(text.encode(SAID)) + 1


async def test_an_answer_can_be_sent_back_as_it_came(
    client: openai.AsyncOpenAI, backend: ScriptedBackend
) -> None:
    """The client dumps an assistant's message with many nulls."""
    answer = await client.chat.completions.create(model="small", messages=HELLO)
    message = answer.choices[0].message.model_dump()
    await client.chat.completions.create(model="small", messages=[*HELLO, message, *HELLO])
    assert len(backend.opened) == 2


async def test_several_choices_and_prompts(client: openai.AsyncOpenAI, backend: ScriptedBackend) -> None:
    answer = await client.completions.create(model="small", prompt=["a", "b"], n=2, seed=5)
    assert [choice.index for choice in answer.choices] == [0, 1, 2, 3]
    assert [choice.text for choice in answer.choices] == [SAID] * 4
    assert answer.usage is not None
    assert answer.usage.prompt_tokens == 2, "each prompt is counted once"


@pytest.mark.parametrize("prompt", [[5, 6], [[5, 6]]])
async def test_a_prompt_of_token_ids(
    client: openai.AsyncOpenAI, backend: ScriptedBackend, prompt: list[int]
) -> None:
    await client.completions.create(model="small", prompt=prompt)
    assert backend.opened[0].prompt == (5, 6)


async def test_a_stop_string_ends_the_text(client: openai.AsyncOpenAI, backend: ScriptedBackend) -> None:
    answer = await client.chat.completions.create(model="small", messages=HELLO, stop=" world")
    assert answer.choices[0].message.content == "Hello 👍🏽"
    assert answer.choices[0].finish_reason == "stop"


async def test_our_extensions(client: openai.AsyncOpenAI, backend: ScriptedBackend, text: TextModel) -> None:
    extensions = {
        "speculate": False,
        "include_stats": True,
        "return_token_ids": True,
        "ignore_eos": True,
        "top_k": 3,
    }
    answer = await client.chat.completions.create(model="small", messages=HELLO, extra_body=extensions)
    assert not backend.opened[0].speculate
    assert backend.opened[0].sampling.top_k == 3
    assert backend.opened[0].sampling.stop_ids == ()
    assert answer.choices[0].token_ids == [*text.encode(SAID), 2]
    assert answer.stats["stages"][1]["accepted"] == STATS[1].counters.accepted
    assert [stage["name"] for stage in answer.stats["stages"]] == ["0:suffix", "1:target"]


async def test_stats_of_choices_are_summed_and_streamed_last(client: openai.AsyncOpenAI) -> None:
    stream = await client.completions.create(
        model="small",
        prompt="x",
        n=2,
        stream=True,
        extra_body={"include_stats": True, "return_token_ids": True},
    )
    *chunks, last = [chunk async for chunk in stream]
    assert last.stats["stages"][0]["steps"] == 2 * STATS[0].counters.steps
    ids = [
        token
        for chunk in chunks
        if chunk.choices[0].index == 1
        for token in chunk.choices[0].model_dump().get("token_ids", [])
    ]
    assert ids[-1] == 2


async def test_models_are_listed(client: openai.AsyncOpenAI) -> None:
    assert [model.id async for model in client.models.list()] == ["small"]
    assert (await client.models.retrieve("small")).owned_by == "pipespec"
    with pytest.raises(openai.NotFoundError):
        await client.models.retrieve("other")


async def test_errors_have_the_clients_own_types(
    client: openai.AsyncOpenAI, backend: ScriptedBackend
) -> None:
    with pytest.raises(openai.NotFoundError) as missing:
        await client.completions.create(model="other", prompt="x")
    assert missing.value.code == "model_not_found"
    with pytest.raises(openai.BadRequestError) as long:
        await client.completions.create(model="small", prompt="x", max_tokens=10_000)
    assert (long.value.code, long.value.param) == ("context_length_exceeded", "max_tokens")
    backend.refusal = Overloaded("full", retry_after_s=2.5)
    with pytest.raises(openai.RateLimitError) as full:
        await client.completions.create(model="small", prompt="x")
    assert full.value.response.headers["retry-after"] == "3"
    backend.refusal = Unavailable("no target", code="no_target_available")
    with pytest.raises(openai.InternalServerError) as none:
        await client.completions.create(model="small", prompt="x", stream=True)
    assert none.value.status_code == 503
    assert none.value.code == "no_target_available"
    assert int(none.value.response.headers["retry-after"]) >= 1


async def test_an_error_inside_a_stream_is_raised_by_the_client(
    client: openai.AsyncOpenAI, backend: ScriptedBackend
) -> None:
    pause = asyncio.Event()
    backend.default = [(5,), pause, Unavailable("no target", code="no_target_available")]
    stream = await client.completions.create(model="small", prompt="x", stream=True)
    assert await anext(stream)
    pause.set()
    with pytest.raises(openai.APIError, match="no target"):
        await anext(stream)


async def test_leaving_a_stream_cancels_its_session(
    client: openai.AsyncOpenAI, backend: ScriptedBackend
) -> None:
    backend.default = [(5,), asyncio.Event()]
    stream = await client.chat.completions.create(model="small", messages=HELLO, stream=True)
    await anext(stream)
    await stream.close()
    await backend.opened[0].closed.wait()
