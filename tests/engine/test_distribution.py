"""Sampling by shared noise draws from the target's own distribution: chi-square tests on a small model.

The expected probabilities come from transformers' processors over a plain forward pass; the draws go through the
engine, one session per seed. Fixed seeds make the p-values constants.
"""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
import torch
from scipy import stats
from transformers import GenerationConfig

from engine.paging import paged_engine, pick
from engine.tiny import tiny_model
from pipespec.engine.paged import PagedEngine
from pipespec.protocol.ids import Digest, Epoch, Position, SessionId, TokenId
from pipespec.protocol.sampling import Sampling
from pipespec.protocol.work import Work

VOCAB = 16
NUM_DRAWS = 20_000
NUM_POSITIONS = 50
PROMPT = (1, 4, 4, 9)
MODEL = tiny_model(seed=7, vocab_size=VOCAB)

COMBINATIONS = [
    {"temperature": 1.0},
    {"temperature": 0.6, "top_k": 5},
    {"temperature": 1.4, "top_p": 0.85},
    {"temperature": 1.1, "min_p": 0.1},
    {"temperature": 0.9, "top_k": 9, "top_p": 0.9, "min_p": 0.02, "repetition_penalty": 1.3},
]


def expected_probabilities(tokens: tuple[int, ...], **sampling) -> np.ndarray:
    """What ``generate`` samples from after ``tokens``."""
    ids = torch.tensor([tokens])
    with torch.inference_mode():
        logits = MODEL(ids).logits[:, -1].float()
    config = GenerationConfig(do_sample=True, **{"top_k": 0, **sampling})
    processors = MODEL._get_logits_processor(config, input_ids_seq_length=len(tokens))
    return processors(ids, logits).double().softmax(-1)[0].numpy()


def p_value(counts: Counter[int], probabilities: np.ndarray) -> float:
    """Of the chi-square test; 0 when something was drawn that has no probability."""
    possible = probabilities > 0
    observed = np.array([counts[token] for token in range(len(probabilities))])
    if observed[~possible].any():
        return 0.0
    expected = probabilities[possible] / probabilities[possible].sum() * observed.sum()
    order = np.argsort(expected)
    seen, wanted = observed[possible][order], expected[order]
    rare = int(np.searchsorted(np.cumsum(wanted), 5.0)) + 1  # chi-square needs 5 expected per cell
    seen = np.append(seen[rare:], seen[:rare].sum())
    wanted = np.append(wanted[rare:], wanted[:rare].sum())
    return float(stats.chisquare(seen, wanted).pvalue)


def draws_after_prompt(**sampling) -> Counter[int]:
    """``NUM_DRAWS`` tokens over many seeds and positions, all from the logits after the prompt.

    The generated tokens repeat one of the prompt, so that no penalty for repetition changes from row to row.
    """
    with torch.inference_mode():
        logits = MODEL(torch.tensor([PROMPT])).logits[0, -1:].expand(NUM_POSITIONS, -1)
    counts: Counter[int] = Counter()
    for seed in range(NUM_DRAWS // NUM_POSITIONS):
        counts += Counter(
            pick(
                logits,
                base=Position(0),
                prompt=[TokenId(token) for token in PROMPT],
                generated=[TokenId(PROMPT[0])] * NUM_POSITIONS,
                sampling=Sampling(seed=seed, **sampling),
            )
        )
    return counts


@pytest.mark.parametrize("sampling", COMBINATIONS, ids=str)
def test_draws_follow_the_targets_distribution(sampling):
    counts = draws_after_prompt(**sampling)
    assert p_value(counts, expected_probabilities(PROMPT, **sampling)) > 0.01


def test_a_wrong_distribution_is_rejected():
    """The negative control: a temperature 5 % off, or a warper left out, is noticed."""
    counts = draws_after_prompt(temperature=1.0)
    assert p_value(counts, expected_probabilities(PROMPT, temperature=1.05)) < 1e-4
    assert p_value(counts, expected_probabilities(PROMPT, temperature=1.0, top_k=9)) == 0.0


def test_positions_of_one_session_are_independent_draws():
    """Along one session, verified in windows through the engine, every position draws from its own distribution.

    Tokens are told apart by their rank in the distribution at their position; over all positions, the ranks must be as
    frequent as the summed probabilities say.
    """
    engine = paged_engine(MODEL, context_len=512, max_chunk=512, packed=False)
    bands = 4
    observed, expected = np.zeros(bands), np.zeros(bands)
    for seed in range(8):
        tokens = generate_by_windows(engine, seed=seed, num_tokens=300)
        with torch.inference_mode():
            logits = MODEL(torch.tensor([[*PROMPT, *tokens]])).logits[0, len(PROMPT) - 1 : -1]
        probabilities = (logits.double() / 0.9).softmax(-1).numpy()
        ranks = np.argsort(-probabilities, axis=1)
        for row, token in enumerate(tokens):
            place = int(np.where(ranks[row] == token)[0][0])
            observed[min(place, bands - 1)] += 1
            ordered = probabilities[row][ranks[row]]
            expected += [*ordered[: bands - 1], ordered[bands - 1 :].sum()]
    assert stats.chisquare(observed, expected).pvalue > 0.01


def generate_by_windows(engine: PagedEngine, *, seed: int, num_tokens: int, window: int = 16) -> list[int]:
    """Decode with bad candidates: each pass feeds the last token and a window of guesses of which few are right."""
    session = SessionId(b"0123456789abcdef")
    engine.open(session, prompt=PROMPT, sampling=Sampling(temperature=0.9, seed=seed))
    random = np.random.default_rng(seed)
    tokens: list[int] = []
    cached = 0
    while len(tokens) < num_tokens:
        text = (*PROMPT, *tokens)
        start = min(cached, len(text) - 1)
        guesses = tuple(int(guess) for guess in random.integers(0, VOCAB, window))
        work = Work(
            session=session,
            epoch=Epoch(0),
            start=start,
            tokens=(*text[start:], *guesses),
            num_candidates=window,
            base=Position(len(tokens)),
            digest=Digest(b""),
            room=window + 1,
        )
        picks = engine.step([work])[0].picks
        right = next((i for i, guess in enumerate(guesses) if guess != picks[i]), window)
        tokens += picks[: right + 1]
        cached = len(text) + right
    return tokens[:num_tokens]
