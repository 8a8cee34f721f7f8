"""Losslessness over real sockets and real (tiny) models: every chain says what the target alone would say."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
import torch
from transformers import AutoModelForCausalLM

from e2e.local_chain import LocalChain, eventually
from engine.tiny import BYTE_VOCAB, save_tiny_model
from pipespec.ops.pipeline import StageKind, StageSettings
from pipespec.protocol.ids import TokenId
from pipespec.protocol.messages import EndReason
from pipespec.protocol.sampling import Sampling

NUM_PROMPTS, MAX_TOKENS = 24, 64


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Three models of one vocabulary that agree on about a third to two thirds of their choices."""
    root = tmp_path_factory.mktemp("tiny")
    target = save_tiny_model(root / "target", seed=1)
    middle = save_tiny_model(root / "middle", seed=2, agree_with=target, noise=0.05)
    draft = save_tiny_model(root / "draft", seed=3, agree_with=target, noise=0.1)
    return [draft, middle, target]


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def chain(folders: list[Path]) -> AsyncIterator[LocalChain]:
    """draft -> middle -> target, with two brokers."""
    stages = [StageSettings(model=str(folder), device="cpu", lookahead=6) for folder in folders]
    async with LocalChain(stages, num_brokers=2).running() as running:
        yield running


@pytest.fixture(scope="module")
def prompts() -> list[list[int]]:
    """Random byte prompts of 1 to 200 tokens."""
    source = random.Random(7)
    lengths = [1, 2, 200, *(source.randint(3, 60) for _ in range(NUM_PROMPTS - 3))]
    return [[source.randrange(3, BYTE_VOCAB) for _ in range(length)] for length in lengths]


def oracle(folder: Path, prompt: list[int]) -> list[int]:
    """transformers' own greedy decoding."""
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    ids = torch.tensor([prompt])
    output = model.generate(
        ids, attention_mask=torch.ones_like(ids), max_new_tokens=MAX_TOKENS, do_sample=False, pad_token_id=0
    )
    return [int(token) for token in output[0, len(prompt) :]]


STOP = (2,)


@pytest.mark.asyncio(loop_scope="module")
async def test_greedy_output_is_transformers_generate_token_for_token(
    chain: LocalChain, folders: list[Path], prompts: list[list[int]]
) -> None:
    for prompt in prompts:
        generated = await chain.generate(prompt, Sampling(max_tokens=MAX_TOKENS, stop_ids=STOP))
        expected = oracle(folders[-1], prompt)
        assert generated.ids == expected
        assert generated.end is (EndReason.STOP if expected[-1] in STOP else EndReason.LENGTH)
    assert sum(stage.loop.core.totals().rollbacks for stage in chain.stages[1:]) > 0


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize(
    "sampling",
    [
        {"temperature": 0.8},
        {"temperature": 1.2, "top_k": 20, "top_p": 0.9},
        {"temperature": 0.8, "min_p": 0.1, "repetition_penalty": 1.3},
        {"temperature": 0.8, "presence_penalty": 0.7, "frequency_penalty": 0.4, "logit_bias": ((10, 3.0),)},
        {"repetition_penalty": 1.5},
    ],
    ids=[
        "temperature",
        "top-k and top-p",
        "min-p and repetition",
        "presence, frequency, bias",
        "greedy repetition",
    ],
)
async def test_with_a_seed_the_chain_says_what_the_target_alone_says(
    chain: LocalChain, prompts: list[list[int]], sampling: dict[str, float]
) -> None:
    for seed, prompt in enumerate(prompts[:4]):
        asked = Sampling(max_tokens=32, seed=seed, stop_ids=STOP, **sampling)  # type: ignore[arg-type]
        together = await chain.generate(prompt, asked)
        alone = await chain.generate(prompt, asked, speculate=False)
        assert together.ids == alone.ids


@pytest.mark.asyncio(loop_scope="module")
async def test_eight_sessions_at_once_are_eight_right_outputs(
    chain: LocalChain, folders: list[Path], prompts: list[list[int]]
) -> None:
    asked = Sampling(max_tokens=MAX_TOKENS, stop_ids=STOP)
    results = await asyncio.gather(*(chain.generate(prompt, asked) for prompt in prompts[:8]))
    assert [result.ids for result in results] == [oracle(folders[-1], prompt) for prompt in prompts[:8]]


@pytest.mark.asyncio(loop_scope="module")
async def test_positions_are_contiguous_and_counters_add_up(
    chain: LocalChain, prompts: list[list[int]]
) -> None:
    generated = await chain.generate(prompts[5], Sampling(max_tokens=40))
    assert generated.starts[0] == 0
    assert len(generated.ids) == 40
    assert [stats.rank for stats in chain.stats] == [0, 1, 2]
    target = chain.stats[-1].counters
    assert target.tokens >= 40
    assert target.accepted <= target.checked


@pytest.mark.asyncio(loop_scope="module")
async def test_a_cancelled_session_is_freed_on_every_stage(
    chain: LocalChain, prompts: list[list[int]]
) -> None:
    ids = tuple(TokenId(token) for token in prompts[2])
    stream = await chain.backend.open(prompt=ids, sampling=Sampling(max_tokens=250))
    await anext(aiter(stream))
    await stream.close()
    await eventually(lambda: not any(stage.loop.core.sessions for stage in chain.stages))


@pytest.mark.asyncio(loop_scope="module")
async def test_one_of_two_brokers_may_go(
    chain: LocalChain, folders: list[Path], prompts: list[list[int]]
) -> None:
    chain.forwarders[0].stop()
    generated = await chain.generate(prompts[4], Sampling(max_tokens=MAX_TOKENS, stop_ids=STOP))
    assert generated.ids == oracle(folders[-1], prompts[4])


@pytest.mark.asyncio
async def test_a_suffix_draft_before_a_model_changes_nothing(
    folders: list[Path], prompts: list[list[int]]
) -> None:
    stages = [
        StageSettings(kind=StageKind.SUFFIX, lookahead=8),
        StageSettings(model=str(folders[-1]), device="cpu"),
    ]
    async with LocalChain(stages).running() as running:
        for prompt in [[5, 6, 7, 8] * 20, *prompts[:5]]:
            generated = await running.generate(prompt, Sampling(max_tokens=MAX_TOKENS, stop_ids=STOP))
            assert generated.ids == oracle(folders[-1], prompt)
        assert running.stages[1].loop.core.totals().checked > 0
