"""The paged engine against transformers' ``generate``, under schedules of chunks, candidates and rollbacks."""

from __future__ import annotations

import random
from collections.abc import Sequence

import pytest
import torch
from transformers import PreTrainedModel

from engine.families import SLIDING_WINDOW
from engine.paging import paged_engine, pick
from engine.schedule import Script, make_work, run_interleaved
from engine.tiny import FAMILIES, tiny_model
from pipespec.ops.errors import InvariantBroken
from pipespec.protocol.ids import Position, SessionId, TokenId
from pipespec.protocol.sampling import Sampling

VOCAB = 64
SESSION = SessionId(b"0123456789abcdef")


def prompt_of(length: int, *, seed: int) -> list[int]:
    return [random.Random(seed + i).randrange(VOCAB) for i in range(length)]


def generated(model: PreTrainedModel, prompt: Sequence[int], num_tokens: int) -> list[int]:
    ids = torch.tensor([prompt])
    output = model.generate(
        ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=num_tokens, eos_token_id=-1
    )
    return output[0, len(prompt) :].tolist()


def sampled_alone(
    model: PreTrainedModel, prompt: Sequence[int], num_tokens: int, sampling: Sampling
) -> list[int]:
    """The specification: one full forward pass per token, no cache, no candidates."""
    tokens: list[int] = []
    with torch.inference_mode():
        for position in range(num_tokens):
            logits = model(torch.tensor([[*prompt, *tokens]]), use_cache=False).logits[0, -1:]
            tokens += pick(
                logits,
                base=Position(position),
                prompt=[TokenId(token) for token in prompt],
                generated=[TokenId(token) for token in tokens],
                sampling=sampling,
            )
    return tokens


@pytest.mark.parametrize("shaped", [False, True], ids=("ragged", "shaped"))
@pytest.mark.parametrize("family", FAMILIES)
def test_greedy_picks_are_those_of_generate_under_any_schedule(family, shaped):
    """Sliding windows are crossed many times over: texts are ten windows long and more."""
    model = tiny_model(family, seed=3, vocab_size=VOCAB, layers=3)
    scripts = []
    for seed in range(4):
        prompt = prompt_of(3 + 7 * seed, seed=seed)
        reference = generated(model, prompt, 10 * SLIDING_WINDOW)
        scripts.append(Script(prompt=prompt, reference=reference, vocab_size=VOCAB, seed=seed))
    run_interleaved(paged_engine(model, shaped=shaped), scripts, sampling=Sampling(max_tokens=99), seed=1)
    for script in scripts:
        assert tuple(script.picked[: len(script.reference)]) == script.reference


@pytest.mark.parametrize(
    "sampling",
    [
        Sampling(temperature=0.8, seed=4),
        Sampling(temperature=1.2, seed=5, top_k=20, top_p=0.9, min_p=0.02),
        Sampling(repetition_penalty=1.3, presence_penalty=0.4, frequency_penalty=0.2),
        Sampling(temperature=0.9, seed=6, repetition_penalty=1.2, logit_bias=((5, 2.0), (9, -3.0))),
    ],
    ids=("temperature", "warpers", "greedy with penalties", "penalty, bias and noise"),
)
@pytest.mark.parametrize("family", ["llama", "mistral"])
def test_sampled_picks_are_those_of_plain_decoding_under_any_schedule(family, sampling):
    """A seed gives one text, whatever the chunks, candidates and rollbacks were."""
    model = tiny_model(family, seed=8, vocab_size=VOCAB)
    scripts = []
    for seed in range(2):
        prompt = prompt_of(9, seed=seed)
        reference = sampled_alone(model, prompt, 24, sampling)
        scripts.append(Script(prompt=prompt, reference=reference, vocab_size=VOCAB, seed=seed))
    run_interleaved(paged_engine(model), scripts, sampling=sampling, seed=2)
    for script in scripts:
        assert tuple(script.picked[: len(script.reference)]) == script.reference


def test_opening_an_open_session_starts_it_afresh():
    model = tiny_model(seed=1)
    engine = paged_engine(model)
    first, second = prompt_of(12, seed=1), prompt_of(12, seed=50)
    for prompt in (first, second):
        script = Script(prompt=prompt, reference=generated(model, prompt, 10), vocab_size=VOCAB, seed=0)
        script.session = SESSION
        run_interleaved(engine, [script], sampling=Sampling(), seed=0)
        assert tuple(script.picked[:10]) == script.reference


def test_room_bounds_the_picks():
    engine = paged_engine(tiny_model())
    engine.open(SESSION, prompt=[TokenId(1)], sampling=Sampling())
    work = make_work(SESSION, start=0, tokens=[1, 2, 3], num_candidates=2, num_prompt=1, room=2)
    assert [len(outcome.picks) for outcome in engine.step([work])] == [2]


@pytest.mark.parametrize(
    ("start", "tokens", "num_candidates", "complaint"),
    [
        (0, [], 0, "expected 1 to 64 tokens"),
        (3, [1, 2], 2, "more than the 2 candidates"),
        (3, [1] * 65, 0, "expected 1 to 64 tokens"),
        (3, [1, 64], 0, "token 64, the vocabulary has 64"),
        (3, [-1, 1], 0, "token -1, the vocabulary has 64"),
    ],
)
def test_work_that_does_not_fit_is_a_bug_of_ours(start, tokens, num_candidates, complaint):
    engine = paged_engine(tiny_model(vocab_size=64))
    engine.open(SESSION, prompt=[TokenId(1)] * 3, sampling=Sampling())
    engine.step([make_work(SESSION, start=0, tokens=[1, 1, 1], num_candidates=0, num_prompt=3, room=0)])
    work = make_work(SESSION, start=start, tokens=tokens, num_candidates=num_candidates, num_prompt=3, room=1)
    with pytest.raises(InvariantBroken, match=complaint):
        engine.step([work])


def test_work_beyond_the_context_is_a_bug_of_ours():
    engine = paged_engine(tiny_model(), context_len=4)
    engine.open(SESSION, prompt=[TokenId(1)], sampling=Sampling())
    work = make_work(SESSION, start=0, tokens=[1, 2, 3, 4, 5], num_candidates=0, num_prompt=5, room=1)
    with pytest.raises(InvariantBroken, match="5 tokens, the context is 4"):
        engine.step([work])


def test_closed_sessions_are_unknown_and_closing_twice_is_harmless():
    engine = paged_engine(tiny_model())
    engine.open(SESSION, prompt=[TokenId(1)], sampling=Sampling())
    engine.close(SESSION)
    engine.close(SESSION)
    work = make_work(SESSION, start=0, tokens=[1], num_candidates=0, num_prompt=1, room=1)
    with pytest.raises(InvariantBroken, match="not open"):
        engine.step([work])


def test_what_was_not_checked_is_not_kept_for_others() -> None:
    """Two blocks are full, but the second one holds candidates."""
    engine = paged_engine(tiny_model("llama", seed=3, vocab_size=VOCAB), block_size=4)
    engine.open(SESSION, prompt=[TokenId(5)] * 4, sampling=Sampling())
    engine.step(
        [make_work(SESSION, start=0, tokens=[5] * 4 + [6] * 4, num_candidates=4, num_prompt=4, room=5)]
    )
    engine.close(SESSION)
    assert engine.blocks.num_cached == 1
