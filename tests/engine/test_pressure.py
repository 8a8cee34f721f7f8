"""The engine under load: too few blocks, equal prompts, many sessions that come and go, company in the batch."""

from __future__ import annotations

import random
from collections.abc import Sequence

import psutil
import pytest
import torch
from transformers import PreTrainedModel

from engine.paging import paged_engine
from engine.schedule import Script, make_work
from engine.tiny import tiny_model
from pipespec.engine.batch_builder import Share
from pipespec.engine.paged import PagedEngine
from pipespec.protocol.ids import SessionId, TokenId
from pipespec.protocol.sampling import Sampling

VOCAB = 64


def prompt_of(length: int, *, seed: int) -> list[int]:
    return random.Random(seed).choices(range(VOCAB), k=length)


def generated(model: PreTrainedModel, prompt: Sequence[int], num_tokens: int) -> list[int]:
    ids = torch.tensor([prompt])
    output = model.generate(
        ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=num_tokens, eos_token_id=-1
    )
    return output[0, len(prompt) :].tolist()


def scripts_for(model: PreTrainedModel, *, num: int, num_prompt: int, num_tokens: int) -> list[Script]:
    prompts = [prompt_of(num_prompt, seed=seed) for seed in range(num)]
    return [
        Script(prompt=prompt, reference=generated(model, prompt, num_tokens), vocab_size=VOCAB, seed=seed)
        for seed, prompt in enumerate(prompts)
    ]


def session_id(number: int) -> SessionId:
    return SessionId(number.to_bytes(16, "big"))


def opened(engine: PagedEngine, number: int, prompt: Sequence[int]) -> SessionId:
    session = session_id(number)
    engine.open(session, prompt=[TokenId(token) for token in prompt], sampling=Sampling(max_tokens=99))
    return session


def prefill(engine: PagedEngine, session: SessionId, prompt: Sequence[int]) -> tuple[int, ...]:
    """Feed a prompt in chunks; the first pick."""
    start = 0
    while True:
        tokens = prompt[start : start + engine.max_chunk]
        is_last = start + len(tokens) == len(prompt)
        work = make_work(
            session,
            start=start,
            tokens=tokens,
            num_candidates=0,
            num_prompt=len(prompt),
            room=int(is_last),
        )
        (outcome,) = engine.step([work])
        if outcome.picks:
            return tuple(outcome.picks)
        start = outcome.held


class RowCounter:
    """Counts the tokens that an engine computes."""

    def __init__(self, engine: PagedEngine) -> None:
        self.num_rows = 0
        self._forward = engine._forward
        engine._forward = self

    def __call__(self, shares: Sequence[Share]) -> torch.Tensor:
        self.num_rows += sum(len(share.tokens) for share in shares)
        return self._forward(shares)


@pytest.mark.parametrize("block_size", [1, 4, 16])
def test_with_blocks_for_one_all_sessions_finish_and_the_oldest_never_waits(block_size):
    model = tiny_model(seed=2)
    num_prompt, num_tokens = 20, 16
    context_len = num_prompt + num_tokens + 12
    engine = paged_engine(
        model,
        num_blocks=-(-context_len // block_size),
        block_size=block_size,
        context_len=context_len,
        max_chunk=32,
    )
    scripts = scripts_for(model, num=4, num_prompt=num_prompt, num_tokens=num_tokens)
    for script in scripts:
        script.open(engine, Sampling(max_tokens=99))
    running = list(scripts)  # the oldest first
    for _ in range(1000):
        batch = [script.next_work() for script in running]
        outcomes = engine.step(batch)
        assert outcomes[0].held >= batch[0].start + len(batch[0].tokens)
        for script, work, outcome in zip(running, batch, outcomes, strict=True):
            script.on_outcome(work, outcome)
        for script in [script for script in running if script.is_done]:
            engine.close(script.session)
            running.remove(script)
        if not running:
            break
    assert not running
    assert engine.cache_use.preempted > 0
    assert engine.blocks.num_held == 0
    assert all(tuple(one.picked[: len(one.reference)]) == one.reference for one in scripts)


def test_the_youngest_gives_its_blocks_back_first():
    engine = paged_engine(tiny_model(), num_blocks=12, block_size=4, context_len=48)
    prompts = [prompt_of(16, seed=seed) for seed in range(3)]
    sessions = [opened(engine, number, prompt) for number, prompt in enumerate(prompts)]
    for session, prompt in zip(sessions, prompts, strict=True):
        prefill(engine, session, prompt)
    assert engine.blocks.num_available == 0
    works = [
        make_work(session, start=16, tokens=[1], num_candidates=0, num_prompt=16, room=1)
        for session in sessions
    ]
    outcomes = engine.step(works[::-1])[::-1]  # the order of a batch decides nothing
    assert [outcome.held for outcome in outcomes] == [17, 17, 0]
    assert [len(outcome.picks) for outcome in outcomes] == [1, 1, 0]
    assert engine.cache_use.preempted == 1


def test_a_session_that_rests_may_lose_its_blocks_too():
    engine = paged_engine(tiny_model(), num_blocks=8, block_size=4, context_len=32)
    old, young = (opened(engine, number, prompt_of(16, seed=number)) for number in range(2))
    prefill(engine, old, prompt_of(16, seed=0))
    first = prefill(engine, young, prompt_of(16, seed=1))
    (outcome,) = engine.step([make_work(old, start=16, tokens=[1], num_candidates=0, num_prompt=16, room=1)])
    assert outcome.held == 17
    lost = make_work(young, start=16, tokens=[first[0]], num_candidates=0, num_prompt=16, room=1)
    (outcome,) = engine.step([lost])
    assert (list(outcome.picks), outcome.held) == ([], 0)


def test_an_equal_prompt_is_computed_once():
    """1,000 tokens: 62 full blocks of 16 are there already; the last token is always computed."""
    model = tiny_model(seed=2)
    engine = paged_engine(model, num_blocks=160, block_size=16, context_len=1100, max_chunk=256)
    rows = RowCounter(engine)
    prompt = prompt_of(1000, seed=1)
    first = prefill(engine, opened(engine, 1, prompt), prompt)
    assert rows.num_rows == 1000
    second = prefill(engine, opened(engine, 2, prompt), prompt)
    assert rows.num_rows == 1000 + 8
    assert first == second == tuple(generated(model, prompt, 1))
    assert engine.cache_use.adopted == 992


def test_a_common_beginning_outlives_the_session_that_brought_it():
    engine = paged_engine(tiny_model(seed=2), num_blocks=160, block_size=16, context_len=1100, max_chunk=256)
    common = prompt_of(640, seed=1)
    for number in range(3):
        rows = RowCounter(engine)
        prompt = common + prompt_of(30, seed=50 + number)
        prefill(engine, opened(engine, number, prompt), prompt)
        assert rows.num_rows == (30 if number else 670)
        engine.close(session_id(number))


def test_hundreds_of_sessions_of_all_lengths_come_and_go_and_leave_nothing():
    """The first ones go through the whole pool; what torch and Python keep for themselves is there after them."""
    engine = paged_engine(tiny_model(), num_blocks=128, block_size=4, context_len=512, max_chunk=512)
    process, lengths = psutil.Process(), random.Random(5)
    resident = []
    for number in range(600):
        prompt = prompt_of(lengths.randrange(20, 400), seed=number)
        prefill(engine, opened(engine, number, prompt), prompt)
        engine.close(session_id(number))
        if number >= 150:
            resident.append(process.memory_info().rss)
    assert engine.blocks.num_held == 0
    assert engine.blocks.num_cached > 0
    assert not engine._sessions
    assert resident[-1] - resident[0] < 32 * 2**20


@pytest.mark.parametrize("shaped", [False, True], ids=("ragged", "shaped"))
@pytest.mark.parametrize("family", ["llama", "gemma3", "mixtral", "gpt2"])
def test_company_in_the_batch_changes_no_pick(family, shaped):
    """Experts see the rows of all sessions at once, and captured shapes pad them."""
    model = tiny_model(family, seed=6)
    alone = scripts_for(model, num=4, num_prompt=9, num_tokens=20)
    together = scripts_for(model, num=4, num_prompt=9, num_tokens=20)
    for scripts, num_in_batch in ((alone, 1), (together, 4)):
        engine = paged_engine(model, shaped=shaped)
        for script in scripts:
            script.open(engine, Sampling(max_tokens=99))
        while running := [script for script in scripts if not script.is_done][:num_in_batch]:
            batch = [script.next_work() for script in running]
            for script, work, outcome in zip(running, batch, engine.step(batch), strict=True):
                script.on_outcome(work, outcome)
    assert [script.picked for script in alone] == [script.picked for script in together]
    assert all(tuple(one.picked[: len(one.reference)]) == one.reference for one in alone)
