"""The sampler against transformers' own processors, and the noise against its definition."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import GenerationConfig

from engine.paging import pick
from engine.tiny import tiny_model
from pipespec.engine.sampler import gumbel_noise, uniform_noise, warp
from pipespec.protocol.ids import Position, TokenId
from pipespec.protocol.noise import gumbel, noise_key, uniform
from pipespec.protocol.sampling import Sampling

CPU = torch.device("cpu")
VOCAB = 64
PROMPT = [TokenId(token) for token in (3, 9, 9, 27)]
GENERATED = [TokenId(token) for token in (9, 14, 14, 3, 40, 14, 8)]

WARPERS = [
    {"temperature": 0.7},
    {"temperature": 1.0},
    {"temperature": 1.3, "top_k": 7},
    {"temperature": 0.9, "top_p": 0.6},
    {"temperature": 1.0, "min_p": 0.2},
    {"temperature": 1.5, "top_k": 20, "top_p": 0.8, "min_p": 0.05},
    {"temperature": 0.8, "top_k": 1},
    {"temperature": 0.8, "top_k": 1000},
    {"temperature": 0.8, "repetition_penalty": 1.4},
    {"temperature": 1.1, "repetition_penalty": 0.7, "top_p": 0.9},
]


def logits(rows: int, *, seed: int = 0) -> torch.Tensor:
    return 4 * torch.randn(rows, VOCAB, generator=torch.Generator().manual_seed(seed))


def choose(scores: torch.Tensor, *, base: int = 0, **sampling) -> list[int]:
    return pick(
        scores, base=Position(base), prompt=PROMPT, generated=GENERATED, sampling=Sampling(**sampling)
    )


@given(st.lists(st.integers(0, 2**64 - 1), min_size=1, max_size=4))
def test_uniform_noise_is_the_definition_bit_for_bit(keys):
    drawn = uniform_noise(keys, 50, device=CPU)
    assert drawn.tolist() == [[uniform(key, TokenId(token)) for token in range(50)] for key in keys]


def test_gumbel_noise_is_the_definition():
    keys = [noise_key(11, Position(position)) for position in range(20)]
    expected = [[gumbel(key, TokenId(token)) for token in range(500)] for key in keys]
    torch.testing.assert_close(
        gumbel_noise(keys, 500, device=CPU),
        torch.tensor(expected, dtype=torch.float64),
        rtol=1e-14,
        atol=1e-14,
    )


@pytest.mark.parametrize("sampling", WARPERS, ids=str)
def test_scores_are_those_of_generate(sampling):
    """Penalties and warpers give, bit for bit, what ``generate`` would sample from."""
    scores = logits(1)
    history = torch.tensor([PROMPT + GENERATED])
    config = GenerationConfig(do_sample=True, **{"top_k": 0, **sampling})
    processors = tiny_model()._get_logits_processor(config, input_ids_seq_length=history.shape[1])
    expected = processors(history, scores.clone())

    ours = Sampling(**sampling)
    noise = gumbel_noise([noise_key(0, Position(len(GENERATED)))], VOCAB, device=CPU)
    best = (expected.double() + noise).argmax(-1).tolist()
    assert choose(scores, base=len(GENERATED), **sampling) == best
    if not ours.uses_history:
        assert torch.equal(warp(scores, ours), expected)


def test_temperature_zero_is_argmax():
    scores = logits(5)
    assert choose(scores) == scores.argmax(-1).tolist()


def test_equal_scores_go_to_the_lowest_id():
    scores = torch.zeros(1, VOCAB)
    scores[0, [9, 30, 50]] = 1.0
    assert choose(scores) == [9]


def test_a_row_does_not_depend_on_its_batch():
    """A position's token is the same whether it is picked alone or among others."""
    scores = logits(4)
    for sampling in (*WARPERS, {"presence_penalty": 1.5, "temperature": 1.0}):
        together = choose(scores, base=3, seed=5, **sampling)
        alone = [choose(scores[row : row + 1], base=3 + row, seed=5, **sampling)[0] for row in range(4)]
        assert together == alone


def test_each_row_sees_the_tokens_before_it():
    """Row i counts the first base + i generated tokens, the candidates before it among them."""
    scores = torch.zeros(3, VOCAB)
    scores[:, 40] = 1.0  # GENERATED[4] is 40: seen from position 5 on
    scores[:, 41] = 0.5
    assert choose(scores, base=3, presence_penalty=2.0) == [40, 40, 41]
    assert choose(scores, base=3, repetition_penalty=4.0) == [40, 40, 41]


def test_the_repetition_penalty_counts_the_prompt_and_the_openai_penalties_do_not():
    scores = torch.zeros(1, VOCAB)
    scores[0, 27] = 1.0  # in the prompt alone
    scores[0, 41] = 0.5
    assert choose(scores, repetition_penalty=4.0) == [41]
    assert choose(scores, presence_penalty=2.0) == [27]


@pytest.mark.parametrize(
    ("penalties", "expected"),
    [
        ({"frequency_penalty": 0.5}, {14: -1.5, 9: -0.5, 27: 0.0}),
        ({"presence_penalty": 0.5}, {14: -0.5, 9: -0.5, 27: 0.0}),
        ({"presence_penalty": -1.0, "frequency_penalty": 0.25}, {14: 0.25, 9: 0.75, 27: 0.0}),
    ],
)
def test_openai_penalties_subtract_presence_once_and_frequency_per_occurrence(penalties, expected):
    for token, change in expected.items():
        for against, winner in ((change - 0.01, token), (change + 0.01, 63)):
            scores = torch.full((1, VOCAB), -50.0)
            scores[0, token], scores[0, 63] = 0.0, against
            assert choose(scores, base=len(GENERATED), **penalties) == [winner]


def test_logit_bias_is_added_before_all_else():
    scores = torch.zeros(2, VOCAB)
    assert choose(scores, logit_bias=((5, -1.0), (12, 3.0))) == [12, 12]
    assert choose(scores, logit_bias=((12, 3.0),), temperature=0.5, top_k=1) == [12, 12]


def test_a_bias_beyond_the_vocabulary_is_ignored():
    """A stage whose vocabulary is padded less than the target's cannot say those ids."""
    assert choose(torch.zeros(1, VOCAB), logit_bias=((7, 1.0), (VOCAB + 3, 9.0))) == [7]


def test_the_smallest_temperature_is_argmax():
    scores = logits(5)
    assert choose(scores, temperature=5e-324) == scores.argmax(-1).tolist()


def test_bfloat16_logits_are_warped_in_float32():
    scores = logits(3).bfloat16()
    assert choose(scores, temperature=0.9, top_p=0.7) == choose(scores.float(), temperature=0.9, top_p=0.7)


@settings(max_examples=30)
@given(st.integers(0, 2**64 - 1), st.integers(0, 10_000))
def test_seed_and_position_alone_fix_the_noise(seed, position):
    scores = logits(1)
    one = choose(scores, base=0, temperature=1.0, seed=seed)
    assert one == choose(scores, base=0, temperature=1.0, seed=seed, max_tokens=99)
    noise = gumbel_noise([noise_key(seed, Position(position))], VOCAB, device=CPU)
    expected = (scores.double() + noise).argmax(-1).tolist()
    assert choose(scores, base=position, temperature=1.0, seed=seed) == expected


@pytest.mark.parametrize(
    "extreme",
    [
        {"temperature": 5e-324},
        {"temperature": 100, "top_p": 5e-324},
        {"temperature": 1.0, "repetition_penalty": 5e-324},
        {
            "temperature": 5e-324,
            "repetition_penalty": 5e-324,
            "top_p": 5e-324,
            "min_p": 1.0,
            "top_k": 2**31 - 1,
        },
        {"temperature": 1.0, "logit_bias": tuple((token, -100.0) for token in range(VOCAB)), "min_p": 1.0},
        {"frequency_penalty": -2.0, "repetition_penalty": 10.0},
    ],
)
def test_the_most_extreme_parameters_that_are_taken_choose_a_token_and_the_same_one_again(extreme):
    scores = logits(6)
    scores[:, 9] = 0.0  # what is divided by next to nothing
    picks = choose(scores.clone(), seed=3, **extreme)
    assert all(0 <= token < VOCAB for token in picks)
    assert choose(scores.clone(), seed=3, **extreme) == picks
