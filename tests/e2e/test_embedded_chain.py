"""Losslessness on real weights: ``suffix -> SmolLM2-135M`` gives exactly what transformers' ``generate`` gives."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel

from e2e.local_chain import LocalChain
from e2e.prompts import CHAT, CODE, LANGUAGES, LISTS, LONG, RAW
from pipespec.gateway.text import ChatMessage, TextModel
from pipespec.models.stop import stop_ids
from pipespec.ops.pipeline import StageKind, StageSettings
from pipespec.protocol.sampling import Sampling

pytestmark = [pytest.mark.model, pytest.mark.timeout(900)]
MAX_TOKENS = 64


@pytest.fixture(scope="module")
def text(embedded_model: Path) -> TextModel:
    """Our own tokenizer and chat template."""
    return TextModel.load(embedded_model)


@pytest.fixture(scope="module")
def prompts(embedded_model: Path) -> list[list[int]]:
    """As transformers tokenizes them."""
    tokenizer = AutoTokenizer.from_pretrained(embedded_model)
    chats = [
        tokenizer.apply_chat_template(
            [{"role": "user", "content": content}], add_generation_prompt=True, return_dict=False
        )
        for content in [*CHAT, *CODE, *LISTS, *LANGUAGES, LONG]
    ]
    return [*chats, *(tokenizer(raw)["input_ids"] for raw in RAW)]


@pytest.fixture(scope="module")
def oracle(embedded_model: Path) -> PreTrainedModel:
    """The target, loaded by transformers alone."""
    torch.set_num_threads(1)
    return AutoModelForCausalLM.from_pretrained(embedded_model, dtype=torch.float32)


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def chain(embedded_model: Path) -> AsyncIterator[LocalChain]:
    """suffix -> SmolLM2-135M-Instruct."""
    stages = [
        StageSettings(kind=StageKind.SUFFIX),
        StageSettings(model=str(embedded_model), device="cpu", dtype="float32"),
    ]
    async with LocalChain(stages).running() as running:
        yield running


def generate(model: PreTrainedModel, prompt: list[int]) -> list[int]:
    """Greedy decoding by transformers."""
    ids = torch.tensor([prompt])
    output = model.generate(
        ids, attention_mask=torch.ones_like(ids), max_new_tokens=MAX_TOKENS, do_sample=False
    )
    return [int(token) for token in output[0, len(prompt) :]]


@pytest.mark.asyncio(loop_scope="module")
async def test_greedy_output_is_transformers_generate_for_varied_prompts(
    chain: LocalChain, oracle: PreTrainedModel, prompts: list[list[int]], embedded_model: Path
) -> None:
    assert len(prompts) >= 24
    assert max(len(prompt) for prompt in prompts) >= 1500
    asked = Sampling(max_tokens=MAX_TOKENS, stop_ids=stop_ids(embedded_model))
    for prompt in prompts:
        expected = await asyncio.to_thread(generate, oracle, prompt)
        generated = await chain.generate(prompt, asked)
        assert generated.ids == expected
    target = chain.stages[-1].loop.core.totals()
    assert target.accepted > 0
    assert target.rollbacks > 0


@pytest.mark.asyncio(loop_scope="module")
async def test_with_temperature_and_seed_the_chain_says_what_the_target_alone_says(
    chain: LocalChain, prompts: list[list[int]], embedded_model: Path
) -> None:
    for seed, prompt in enumerate([prompts[2], prompts[8], prompts[14]]):
        asked = Sampling(
            max_tokens=MAX_TOKENS, temperature=0.8, top_p=0.95, seed=seed, stop_ids=stop_ids(embedded_model)
        )
        together = await chain.generate(prompt, asked)
        alone = await chain.generate(prompt, asked, speculate=False)
        assert together.ids == alone.ids


@pytest.mark.asyncio(loop_scope="module")
async def test_eight_sessions_at_once_are_eight_right_outputs(
    chain: LocalChain, oracle: PreTrainedModel, prompts: list[list[int]], embedded_model: Path
) -> None:
    asked = Sampling(max_tokens=MAX_TOKENS, stop_ids=stop_ids(embedded_model))
    chosen = prompts[6:14]
    results = await asyncio.gather(*(chain.generate(prompt, asked) for prompt in chosen))
    assert [result.ids for result in results] == [generate(oracle, prompt) for prompt in chosen]


def test_our_chat_template_gives_the_ids_that_transformers_gives(
    text: TextModel, prompts: list[list[int]]
) -> None:
    contents = [*CHAT, *CODE, *LISTS, *LANGUAGES, LONG]
    for content, expected in zip(contents, prompts, strict=False):
        assert list(text.render_chat([ChatMessage("user", content)])) == expected
