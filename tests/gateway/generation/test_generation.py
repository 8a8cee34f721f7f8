"""The part that all client protocols share, over a scripted pipeline."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from gateway.scripted_backend import STATS, ScriptedBackend
from pipespec.gateway.generation import (
    ChatPrompt,
    Delta,
    Done,
    Event,
    FinishReason,
    GenerationRequest,
    Generator,
    TextPrompt,
    TokenPrompt,
    Usage,
)
from pipespec.gateway.text import ChatMessage, TextModel
from pipespec.ops.errors import Overloaded, RequestError, SessionLost, Unavailable
from pipespec.ops.pipeline import GatewaySettings
from pipespec.protocol.ids import TokenId
from pipespec.protocol.messages import EndReason
from pipespec.protocol.noise import branch_seed
from pipespec.protocol.sampling import Sampling


def generator_of(backend: ScriptedBackend, text: TextModel, **settings: Any) -> Generator:
    return Generator(
        backend=backend, text=text, settings=GatewaySettings(**settings), model_name="small", protocol="test"
    )


@pytest.fixture
def generator(backend: ScriptedBackend, text: TextModel) -> Generator:
    return generator_of(backend, text, default_max_tokens=64)


def asking(prompt: str = "hello", **fields: Any) -> GenerationRequest:
    return GenerationRequest(prompts=(TextPrompt(prompt),), **fields)


async def collect(generator: Generator, request: GenerationRequest) -> list[Event]:
    async with await generator.start(request) as generation:
        return [event async for event in generation]


def text_of(events: list[Event], index: int = 0) -> str:
    return "".join(event.text for event in events if isinstance(event, Delta) and event.index == index)


def ids_of(events: list[Event], index: int = 0) -> list[int]:
    return [
        token
        for event in events
        if isinstance(event, Delta) and event.index == index
        for token in event.token_ids
    ]


def done_of(events: list[Event], index: int = 0) -> Done:
    (done,) = [event for event in events if isinstance(event, Done) and event.index == index]
    return done


async def test_deltas_carry_text_tokens_and_sequence_numbers_and_then_the_end(
    generator: Generator, backend: ScriptedBackend, text: TextModel
) -> None:
    events = await collect(generator, asking("hello", include_stats=True))
    assert text_of(events) == "Hello 👍🏽 world!"
    starts = [event.start for event in events if isinstance(event, Delta) and event.token_ids]
    assert starts == list(range(len(ids_of(events))))
    usage = Usage(len(text.encode("hello")), len(ids_of(events)))
    assert events[-1] == Done(0, FinishReason.STOP, usage, tuple(STATS))
    assert ids_of(events)[-1] == 2, "the id that ends the text is delivered and counted"
    assert backend.opened[0].prompt == tuple(text.encode("hello"))
    assert generator.num_active == 0


async def test_max_tokens_ends_with_length(generator: Generator, backend: ScriptedBackend) -> None:
    events = await collect(generator, asking(max_tokens=2))
    assert done_of(events).finish_reason is FinishReason.LENGTH
    assert done_of(events).usage.completion_tokens == 2
    assert done_of(events).stats is None


async def test_an_unfinished_character_is_delivered_at_the_end(
    generator: Generator, backend: ScriptedBackend, text: TextModel
) -> None:
    backend.default = [tuple(text.encode("a😀")[:2])]
    events = await collect(generator, asking(max_tokens=2))
    assert text_of(events) == "a\ufffd"


@pytest.mark.parametrize("chunk", [1, 2, 3, 99])
async def test_a_stop_string_cuts_text_and_tokens_wherever_messages_break(
    backend: ScriptedBackend, generator: Generator, text: TextModel, chunk: int
) -> None:
    ids = text.encode("one two STOP three four")
    backend.default = [tuple(ids[at : at + chunk]) for at in range(0, len(ids), chunk)]
    events = await collect(generator, asking(stop=("STOP",)))
    assert text_of(events) == "one two "
    completing = next(n for n in range(len(ids) + 1) if "STOP" in text.decode(ids[:n]))
    assert done_of(events).finish_reason is FinishReason.STOP
    assert ids_of(events) == ids[:completing], "the token that completes the stop string is the last one"
    assert done_of(events).usage.completion_tokens == completing
    assert backend.opened[0].end is EndReason.STOP


async def test_a_stop_string_closes_the_session_without_waiting_for_more(
    backend: ScriptedBackend, generator: Generator, text: TextModel
) -> None:
    backend.default = [tuple(text.encode("a STOP")), asyncio.Event()]  # the script would pause for ever
    events = await collect(generator, asking(stop=("STOP",)))
    assert text_of(events) == "a "
    assert backend.opened[0].closed.is_set()


async def test_what_might_have_become_a_stop_string_is_delivered_at_the_end(
    backend: ScriptedBackend, generator: Generator, text: TextModel
) -> None:
    backend.default = [(*text.encode("a STO"), 2)]
    assert text_of(await collect(generator, asking(stop=("STOP",)))) == "a STO"


async def test_choices_have_seeds_of_their_own_and_the_first_one_the_seed_itself(
    generator: Generator, backend: ScriptedBackend
) -> None:
    events = await collect(generator, asking(seed=7, n=3))
    assert [stream.sampling.seed for stream in backend.opened] == [
        branch_seed(7, index) for index in range(3)
    ]
    assert backend.opened[0].sampling.seed == 7
    assert [text_of(events, index) for index in range(3)] == ["Hello 👍🏽 world!"] * 3
    assert {event.index for event in events if isinstance(event, Done)} == {0, 1, 2}


async def test_a_fast_choice_does_not_wait_for_a_slow_one(
    generator: Generator, backend: ScriptedBackend, text: TextModel
) -> None:
    slow = asyncio.Event()
    backend.scripts.extend([[slow, (5, 2)], [(6, 2)]])
    async with await generator.start(asking(n=2)) as generation:
        assert (await anext(generation)).index == 1
        assert isinstance(await anext(generation), Done)
        slow.set()
        assert {event.index async for event in generation} == {0}


async def test_several_prompts_are_numbered_prompt_by_prompt(
    generator: Generator, backend: ScriptedBackend
) -> None:
    prompts = (TokenPrompt((TokenId(5),)), TokenPrompt((TokenId(6), TokenId(7))))
    events = await collect(generator, GenerationRequest(prompts=prompts, n=2, seed=1))
    assert [stream.prompt for stream in backend.opened] == [(5,), (5,), (6, 7), (6, 7)]
    assert done_of(events, 3).usage.prompt_tokens == 2


async def test_a_request_without_a_seed_draws_another_one_each_time(
    generator: Generator, backend: ScriptedBackend
) -> None:
    await collect(generator, asking())
    await collect(generator, asking())
    assert backend.opened[0].sampling.seed != backend.opened[1].sampling.seed


async def test_the_request_reaches_the_pipeline_whole(
    generator: Generator, backend: ScriptedBackend, text: TextModel
) -> None:
    sampling = Sampling(temperature=0.5, top_p=0.9, logit_bias=((5, 1.0),))
    messages = (ChatMessage("user", "hello"),)
    await collect(
        generator,
        GenerationRequest(prompts=(ChatPrompt(messages),), sampling=sampling, speculate=False, seed=3),
    )
    (stream,) = backend.opened
    assert stream.prompt == tuple(text.render_chat(messages))
    assert not stream.speculate
    assert stream.sampling == Sampling(
        temperature=0.5, top_p=0.9, logit_bias=((5, 1.0),), max_tokens=64, seed=3, stop_ids=(2,)
    )


async def test_ignore_eos_leaves_out_the_stop_ids(generator: Generator, backend: ScriptedBackend) -> None:
    await collect(generator, asking(ignore_eos=True))
    assert backend.opened[0].sampling.stop_ids == ()


async def test_max_tokens_defaults_to_what_the_context_leaves(
    generator: Generator, backend: ScriptedBackend, text: TextModel
) -> None:
    backend.context_len = len(text.encode("hello")) + 5
    await collect(generator, asking("hello"))
    assert backend.opened[0].sampling.max_tokens == 5


@pytest.mark.parametrize(
    ("request_", "code", "param"),
    [
        (asking("hello " * 200), "context_length_exceeded", "prompt"),
        (asking("x" * 100_000), "context_length_exceeded", "prompt"),
        (
            GenerationRequest(prompts=(ChatPrompt((ChatMessage("user", "x" * 100_000),)),)),
            "context_length_exceeded",
            "prompt",
        ),
        (asking("hello", max_tokens=255), "context_length_exceeded", "max_tokens"),
        (asking(""), "invalid_value", "prompt"),
        (GenerationRequest(prompts=(TokenPrompt((TokenId(330),)),)), "invalid_value", "prompt"),
        (GenerationRequest(prompts=(TokenPrompt((TokenId(-1),)),)), "invalid_value", "prompt"),
        (asking(sampling=Sampling(logit_bias=((330, 1.0),))), "invalid_value", "logit_bias"),
    ],
)
async def test_what_does_not_fit_the_model_is_refused_before_anything_is_opened(
    generator: Generator, backend: ScriptedBackend, request_: GenerationRequest, code: str, param: str
) -> None:
    with pytest.raises(RequestError) as caught:
        await generator.start(request_)
    assert (caught.value.code, caught.value.param) == (code, param)
    assert backend.opened == []
    assert generator.num_active == 0


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"n": 0}, "n"),
        ({"n": 5}, "n"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"seed": 2**64}, "seed"),
        ({"stop": ("a",) * 5}, "stop"),
        ({"stop": ("",)}, "stop"),
        ({"stop": ("x" * 257,)}, "stop"),
        ({"timeout_s": 0.0}, "timeout_s"),
        ({"request_id": "two words"}, "request_id"),
        ({"prompts": ()}, "prompt"),
    ],
)
def test_values_out_of_range_are_refused_by_name(fields: dict[str, Any], param: str) -> None:
    with pytest.raises(RequestError) as caught:
        GenerationRequest(**{"prompts": (TextPrompt("x"),), **fields})
    assert caught.value.param == param


async def test_a_consumer_that_leaves_closes_its_sessions(
    generator: Generator, backend: ScriptedBackend
) -> None:
    backend.default = [(5,), asyncio.Event()]
    async with await generator.start(asking(n=2)) as generation:
        await anext(generation)
    assert [stream.end for stream in backend.opened] == [EndReason.CANCELLED] * 2
    assert generator.num_active == 0


async def test_a_consumer_cancelled_before_the_first_token_closes_its_session(
    generator: Generator, backend: ScriptedBackend
) -> None:
    backend.default = [asyncio.Event()]
    consumer = asyncio.create_task(collect(generator, asking()))
    stream = await backend.session(0)
    consumer.cancel()
    await asyncio.wait({consumer})
    assert stream.end is EndReason.CANCELLED
    assert generator.num_active == 0


async def test_sessions_already_open_are_closed_when_a_later_one_is_refused(
    generator: Generator, backend: ScriptedBackend
) -> None:
    class Second(ScriptedBackend):
        async def open(self, **asked: Any) -> Any:
            if self.opened:
                raise Overloaded("full")
            return await super().open(**asked)

    second = Second([(5,)], vocab_size=330)
    generator._backend = second
    with pytest.raises(Overloaded):
        await generator.start(asking(n=2))
    assert [stream.end for stream in second.opened] == [EndReason.CANCELLED]


@pytest.mark.parametrize("refusal", [Overloaded("full"), Unavailable("none ready")])
async def test_a_refusal_of_the_pipeline_reaches_the_caller(
    generator: Generator, backend: ScriptedBackend, refusal: RequestError
) -> None:
    backend.refusal = refusal
    with pytest.raises(type(refusal)):
        await generator.start(asking())
    assert generator.num_active == 0


async def test_before_a_target_was_heard_of_the_refusal_is_not_the_clients_fault(
    generator: Generator, backend: ScriptedBackend
) -> None:
    backend.vocab_size = backend.context_len = 0
    with pytest.raises(Unavailable) as refused:
        await collect(generator, asking())
    assert refused.value.code == "no_target_available"


async def test_a_lost_session_raises_after_what_was_delivered(
    generator: Generator, backend: ScriptedBackend
) -> None:
    backend.default = [(5,), SessionLost("no target")]
    async with await generator.start(asking()) as generation:
        assert isinstance(await anext(generation), Delta)
        with pytest.raises(SessionLost):
            await anext(generation)


@pytest.mark.parametrize(
    ("end", "code"),
    [
        (EndReason.CANCELLED, "cancelled"),
        (EndReason.DEADLINE, "deadline_exceeded"),
        (EndReason.LOST, "session_lost"),
    ],
)
async def test_a_session_that_ends_early_is_never_a_success(
    generator: Generator, backend: ScriptedBackend, end: EndReason, code: str
) -> None:
    backend.default = [asyncio.Event()]
    async with await generator.start(asking()) as generation:
        await (await backend.session(0)).close(end)
        with pytest.raises(RequestError) as caught:
            await anext(generation)
    assert caught.value.code == code


async def test_the_deadline_ends_a_request_that_waits(backend: ScriptedBackend, text: TextModel) -> None:
    backend.default = [asyncio.Event()]
    generator = generator_of(backend, text, request_timeout_s=0.05)
    with pytest.raises(RequestError) as caught:
        await collect(generator, asking())
    assert caught.value.code == "deadline_exceeded"
    assert backend.opened[0].end is EndReason.DEADLINE


async def test_the_deadline_ends_sessions_that_are_open_while_others_open(text: TextModel) -> None:
    class Slow(ScriptedBackend):
        async def open(self, **asked: Any) -> Any:
            if self.opened:
                await asyncio.Event().wait()
            return await super().open(**asked)

    slow = Slow([(5,)], vocab_size=330)
    with pytest.raises(RequestError) as caught:
        await generator_of(slow, text, request_timeout_s=0.05).start(asking(n=2))
    assert caught.value.code == "deadline_exceeded"
    assert [stream.end for stream in slow.opened] == [EndReason.DEADLINE]


async def test_a_request_may_ask_for_an_earlier_deadline_but_not_a_later_one(
    backend: ScriptedBackend, text: TextModel
) -> None:
    backend.default = [asyncio.Event()]
    for limit, asked in ((300.0, 0.05), (0.05, 300.0)):
        with pytest.raises(RequestError) as caught:
            await collect(generator_of(backend, text, request_timeout_s=limit), asking(timeout_s=asked))
        assert caught.value.code == "deadline_exceeded"


async def test_cancel_by_id_ends_a_waiting_request(generator: Generator, backend: ScriptedBackend) -> None:
    backend.default = [asyncio.Event()]
    consumer = asyncio.create_task(collect(generator, asking(request_id="r1")))
    stream = await backend.session(0)
    assert generator.cancel("r1")
    with pytest.raises(RequestError) as caught:
        await consumer
    assert caught.value.code == "cancelled"
    assert stream.end is EndReason.CANCELLED
    assert not generator.cancel("r1"), "it is no longer known"


async def test_an_active_request_id_is_refused_and_free_again_afterwards(
    generator: Generator, backend: ScriptedBackend
) -> None:
    backend.scripts.append([asyncio.Event()])
    async with await generator.start(asking(request_id="r1")):
        with pytest.raises(RequestError) as caught:
            await generator.start(asking(request_id="r1"))
        assert caught.value.code == "request_id_active"
        assert len(backend.opened) == 1
    await collect(generator, asking(request_id="r1"))


async def test_no_task_outlives_its_generation(generator: Generator, backend: ScriptedBackend) -> None:
    backend.default = [(5,), asyncio.Event()]
    before = asyncio.all_tasks()
    async with await generator.start(asking(n=4)) as generation:
        await anext(generation)
    assert asyncio.all_tasks() == before
