"""Emulated stages over real sockets: whatever the drafts say, a session gets the text of the target."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest
import pytest_asyncio

from e2e.local_chain import LocalChain
from pipespec.emulation.chain import language_of
from pipespec.ops.pipeline import Pipeline, StageSettings
from pipespec.protocol.ids import TokenId
from pipespec.protocol.sampling import Sampling

MAX_TOKENS = 100
PROMPTS = [[5 + index] * length for index, length in enumerate((1, 2, 17, 40, 300, 600, 3, 9))]


def stages_of(*agreements: float) -> tuple[StageSettings, ...]:
    """Drafts that agree with the next as given, each stage far faster than the next, which so finds something to check."""
    emulations: list[dict[str, Any]] = [
        {"latency_ms": {1: 0.5 + 2 * rank}, "agreement": agreement}
        for rank, agreement in enumerate(agreements)
    ]
    emulations.append({"latency_ms": {1: 12, 8: 14}, "session_ms": 0.2, "jitter": 0.2, "seed": 5})
    stages = [{"kind": "emulated", "emulation": emulation} for emulation in emulations]
    return Pipeline.model_validate({"stages": stages}).stages


STAGES = stages_of(0.3, 0.6)
LANGUAGE = language_of(STAGES)


def oracle(prompt: Sequence[int], *, session_seed: int = 0) -> list[TokenId]:
    """What the target would say, without any pipeline."""
    return LANGUAGE.target_text(prompt, MAX_TOKENS, session_seed=session_seed)


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def chain() -> AsyncIterator[LocalChain]:
    """Three stages; the drafts are often wrong."""
    async with LocalChain(STAGES).running() as running:
        yield running


@pytest.mark.asyncio(loop_scope="module")
async def test_sessions_at_once_each_get_the_targets_text(chain: LocalChain) -> None:
    results = await asyncio.gather(
        *(chain.generate(prompt, Sampling(max_tokens=MAX_TOKENS)) for prompt in PROMPTS)
    )
    assert [result.ids for result in results] == [oracle(prompt) for prompt in PROMPTS]


@pytest.mark.asyncio(loop_scope="module")
async def test_with_temperature_the_seed_of_a_session_decides(chain: LocalChain) -> None:
    for seed in (1, 2):
        asked = Sampling(max_tokens=MAX_TOKENS, temperature=0.8, seed=seed)
        generated = await chain.generate(PROMPTS[3], asked)
        assert generated.ids == oracle(PROMPTS[3], session_seed=seed)


@pytest.mark.asyncio(loop_scope="module")
async def test_the_target_alone_says_the_same(chain: LocalChain) -> None:
    alone = await chain.generate(PROMPTS[2], Sampling(max_tokens=MAX_TOKENS), speculate=False)
    assert alone.ids == oracle(PROMPTS[2])


@pytest.mark.asyncio(loop_scope="module")
async def test_every_stage_accepts_some_words_and_contradicts_others(chain: LocalChain) -> None:
    generated = await chain.generate(PROMPTS[1], Sampling(max_tokens=MAX_TOKENS))
    assert generated.ids == oracle(PROMPTS[1])
    for stage in chain.stats[1:]:
        assert stage.counters.accepted > 0
        assert stage.counters.rollbacks > 0


@pytest.mark.asyncio
async def test_drafts_that_are_never_right_change_nothing() -> None:
    async with LocalChain(stages_of(0.0, 0.0)).running() as running:
        generated = await running.generate(PROMPTS[3], Sampling(max_tokens=MAX_TOKENS))
        assert running.stages[0].loop.core.totals().rolled_back > 0
        assert running.stages[-1].loop.core.totals().accepted == 0
    assert generated.ids == oracle(PROMPTS[3])
