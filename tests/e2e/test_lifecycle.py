"""How requests end before their last token, over a whole chain: every stage stops and frees what it held, others go on exactly."""

from __future__ import annotations

import asyncio
import itertools
import json
import time
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

import httpx
import pytest
import pytest_asyncio

from e2e.local_chain import LocalChain, eventually
from e2e.test_emulated_chain import LANGUAGE, MAX_TOKENS, PROMPTS, STAGES, oracle
from pipespec.bus import link
from pipespec.emulation.vocabulary import CHAT_TEMPLATE, byte_tokenizer
from pipespec.gateway.openai import create_app, serve_http
from pipespec.gateway.text import ChatTemplate, TextModel
from pipespec.ops.errors import OutOfMemory
from pipespec.ops.pipeline import GatewaySettings
from pipespec.protocol.sampling import Sampling
from pipespec.protocol.work import Engine, Outcome, Work, idle

LONG = 5000
"""Tokens; a minute and more of work."""


@pytest_asyncio.fixture
async def chain() -> AsyncIterator[LocalChain]:
    async with LocalChain(STAGES).running() as running:
        yield running


@pytest_asyncio.fixture
async def http(chain: LocalChain) -> AsyncIterator[httpx.AsyncClient]:
    text = TextModel(byte_tokenizer(), template=ChatTemplate(CHAT_TEMPLATE, special_tokens={}))
    app = create_app(backend=chain.backend, text=text, settings=GatewaySettings(), model_name="chain")
    server = await serve_http(app, "127.0.0.1", 0)
    async with httpx.AsyncClient(
        base_url=f"http://127.0.0.1:{server.port}/v1", timeout=60, trust_env=False
    ) as client:
        yield client
    await server.stop(grace_s=0)


def asks(**fields: Any) -> dict[str, Any]:
    prompt = {"model": "chain", "prompt": PROMPTS[2], "temperature": 0, "ignore_eos": True}
    return {**prompt, "max_tokens": LONG, **fields}


def num_sessions(chain: LocalChain) -> list[int]:
    """Of every stage, and of the gateway."""
    return [*(len(stage.loop.core.sessions) for stage in chain.stages), chain.backend.num_sessions]


async def assert_all_stop(chain: LocalChain) -> None:
    """Nobody holds the session, nobody computes, and the next one is exact."""
    await eventually(lambda: not any(num_sessions(chain)), timeout_s=60)
    steps = [stage.loop.core.totals().steps for stage in chain.stages]
    await asyncio.sleep(0.2)
    assert [stage.loop.core.totals().steps for stage in chain.stages] == steps
    assert chain.backend.gate.ledger.num_inside == 0
    generated = await chain.generate(PROMPTS[1], Sampling(max_tokens=MAX_TOKENS))
    assert generated.ids == oracle(PROMPTS[1])


async def running(chain: LocalChain) -> None:
    await eventually(lambda: all(num_sessions(chain)))


@pytest.mark.parametrize("stream", [True, False])
async def test_a_client_that_goes_away_stops_every_stage(
    chain: LocalChain, http: httpx.AsyncClient, stream: bool
) -> None:
    request = asyncio.create_task(http.post("/completions", json=asks(stream=stream)))
    await running(chain)
    request.cancel()
    await asyncio.wait({request})
    await assert_all_stop(chain)


async def test_a_client_that_goes_away_mid_stream_stops_every_stage(
    chain: LocalChain, http: httpx.AsyncClient
) -> None:
    async with http.stream("POST", "/completions", json=asks(stream=True)) as response:
        async for _ in response.aiter_lines():
            break
        await running(chain)
    await assert_all_stop(chain)


async def test_the_deadline_stops_every_stage_and_is_told_in_the_stream(
    chain: LocalChain, http: httpx.AsyncClient
) -> None:
    response = await http.post("/completions", json=asks(stream=True, timeout_s=1.0, return_token_ids=True))
    events = [line[6:] for line in response.text.splitlines() if line.startswith("data: ")]
    *chunks, last = [json.loads(event) for event in events]
    assert last["error"]["code"] == "deadline_exceeded"
    ids = [token for chunk in chunks for token in chunk["choices"][0]["token_ids"]]
    assert ids
    assert ids == LANGUAGE.target_text(PROMPTS[2], LONG)[: len(ids)]
    await assert_all_stop(chain)


async def test_the_deadline_of_a_request_without_a_stream_is_its_answer(
    chain: LocalChain, http: httpx.AsyncClient
) -> None:
    response = await http.post("/completions", json=asks(timeout_s=0.5))
    assert (response.status_code, response.json()["error"]["code"]) == (504, "deadline_exceeded")
    await assert_all_stop(chain)


class Tight:
    """A device that has no memory for some steps, and an engine on it."""

    def __init__(self, engine: Engine, *, fails: Callable[[int], bool]) -> None:
        self._engine = engine
        self._fails = fails

    def __getattr__(self, name: str) -> Any:
        return getattr(self._engine, name)

    def step(self, batch: Sequence[Work], *, meanwhile: Callable[[], None] = idle) -> list[Outcome]:
        if self._fails(sum(len(work.tokens) for work in batch)):
            raise OutOfMemory("injected")
        return self._engine.step(batch, meanwhile=meanwhile)


async def test_steps_without_memory_change_no_output() -> None:
    chain = LocalChain(STAGES)
    target = chain.stages[-1].loop
    target._engine = Tight(target._engine, fails=lambda tokens: tokens > 40)
    async with chain.running():
        results = await asyncio.gather(
            *(chain.generate(prompt, Sampling(max_tokens=MAX_TOKENS)) for prompt in PROMPTS)
        )
    assert target.step_size.num_too_large > 0
    assert [result.ids for result in results] == [oracle(prompt) for prompt in PROMPTS]


async def test_a_wall_clock_that_jumps_by_an_hour_changes_nothing(
    chain: LocalChain, monkeypatch: pytest.MonkeyPatch
) -> None:
    hours, now, now_ns = itertools.cycle((0, 1, -1)), time.time, time.time_ns
    monkeypatch.setattr(time, "time", lambda: now() + 3600 * next(hours))
    monkeypatch.setattr(time, "time_ns", lambda: now_ns() + 3600 * 10**9 * next(hours))
    results = await asyncio.gather(
        *(chain.generate(prompt, Sampling(max_tokens=MAX_TOKENS)) for prompt in PROMPTS)
    )
    assert [result.ids for result in results] == [oracle(prompt) for prompt in PROMPTS]
    assert chain.backend.core.counts["reroutes"] == 0


async def test_messages_that_a_slow_process_loses_change_no_output(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(link, "MAX_QUEUED", 3)
    chain = LocalChain(STAGES)
    async with chain.running():
        results = await asyncio.gather(
            *(chain.generate(prompt, Sampling(max_tokens=MAX_TOKENS)) for prompt in PROMPTS)
        )
        assert sum(stage.link.num_overflowed for stage in chain.stages) > 0
    assert [result.ids for result in results] == [oracle(prompt) for prompt in PROMPTS]
