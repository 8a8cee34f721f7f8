"""How much one principal may have, over a scripted pipeline and two protocols' generators."""

from __future__ import annotations

import asyncio

import pytest

from gateway.scripted_backend import ScriptedBackend
from pipespec.gateway.access import Principal
from pipespec.gateway.generation import GenerationRequest, Generator, TextPrompt
from pipespec.gateway.text import TextModel
from pipespec.ops.errors import Overloaded, RequestError
from pipespec.ops.pipeline import GatewaySettings


def generator_of(backend: ScriptedBackend, text: TextModel, *, protocol: str = "test") -> Generator:
    return Generator(
        backend=backend, text=text, settings=GatewaySettings(), model_name="small", protocol=protocol
    )


def asking(request_id: str = "r1", *, n: int = 1, num_prompts: int = 1) -> GenerationRequest:
    return GenerationRequest(
        prompts=(TextPrompt("hello"),) * num_prompts, request_id=request_id, n=n, max_tokens=4
    )


async def test_a_principal_has_no_more_requests_at_once_than_it_may_over_all_protocols(
    backend: ScriptedBackend, text: TextModel
) -> None:
    alice = Principal("alice", max_requests=2)
    http, grpc = (generator_of(backend, text, protocol=protocol) for protocol in ("openai", "grpc"))
    first = await http.start(asking("r1"), principal=alice)
    second = await grpc.start(asking("r1"), principal=alice)
    with pytest.raises(Overloaded) as refused:
        await http.start(asking("r2"), principal=alice)
    assert refused.value.code == "key_limit_reached"
    assert refused.value.retry_after_s > 0
    await first.aclose()
    third = await http.start(asking("r2"), principal=alice)
    for generation in (second, third):
        await generation.aclose()
    assert alice.num_running == 0


async def test_the_limit_of_one_principal_does_not_touch_another(
    backend: ScriptedBackend, text: TextModel
) -> None:
    generator = generator_of(backend, text)
    alice, bob = Principal("alice", max_requests=1), Principal("bob", max_requests=1)
    async with (
        await generator.start(asking("r1"), principal=alice),
        await generator.start(asking("r2"), principal=bob),
    ):
        assert (alice.num_running, bob.num_running) == (1, 1)


async def test_every_choice_counts_as_a_request(backend: ScriptedBackend, text: TextModel) -> None:
    alice = Principal("alice", max_requests=4)
    generator = generator_of(backend, text)
    async with await generator.start(asking(n=2, num_prompts=2), principal=alice):
        assert alice.num_running == 4


async def test_a_request_beyond_what_its_key_may_ever_have_is_refused_for_good(
    backend: ScriptedBackend, text: TextModel
) -> None:
    with pytest.raises(RequestError, match="3 choices; this key may have 2") as refused:
        await generator_of(backend, text).start(asking(n=3), principal=Principal("alice", max_requests=2))
    assert not refused.value.retriable


async def test_a_request_that_fails_to_start_gives_its_room_back(
    backend: ScriptedBackend, text: TextModel
) -> None:
    alice = Principal("alice", max_requests=1)
    backend.refusal = Overloaded("no room")
    with pytest.raises(Overloaded):
        await generator_of(backend, text).start(asking(), principal=alice)
    assert alice.num_running == 0


async def test_a_request_cancelled_while_it_starts_gives_its_room_back(
    backend: ScriptedBackend, text: TextModel
) -> None:
    alice = Principal("alice", max_requests=1)
    starting = asyncio.create_task(generator_of(backend, text).start(asking(), principal=alice))
    await asyncio.sleep(0)
    assert alice.num_running == 1
    starting.cancel()
    await asyncio.wait({starting})
    assert alice.num_running == 0


async def test_a_model_that_is_not_the_principals_is_refused(
    backend: ScriptedBackend, text: TextModel
) -> None:
    with pytest.raises(RequestError) as refused:
        await generator_of(backend, text).start(asking(), principal=Principal("alice", models={"other"}))
    assert refused.value.code == "model_not_allowed"
    assert backend.opened == []


async def test_a_model_that_is_the_principals_is_served(backend: ScriptedBackend, text: TextModel) -> None:
    alice = Principal("alice", models={"small"})
    async with await generator_of(backend, text).start(asking(), principal=alice):
        assert len(backend.opened) == 1


async def test_request_ids_of_different_principals_do_not_meet(
    backend: ScriptedBackend, text: TextModel
) -> None:
    generator = generator_of(backend, text)
    alice, bob = Principal("alice"), Principal("bob")
    async with await generator.start(asking("same"), principal=alice) as running:
        assert not generator.cancel("same", principal=bob), "it is not his"
        async with await generator.start(asking("same"), principal=bob):
            assert generator.cancel("same", principal=bob)
        assert [event async for event in running], "hers was not touched"


async def test_new_rights_go_on_counting_what_runs_under_the_old_ones() -> None:
    old, new = Principal("alice", max_requests=5), Principal("alice", max_requests=1)
    old.enter(1)
    new.succeed(old)
    with pytest.raises(Overloaded):
        new.enter(1)
    old.leave(1)
    new.enter(1)
