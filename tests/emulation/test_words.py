"""The hash language: everybody can compute what everybody says, and agreements are what was asked for."""

from __future__ import annotations

import pytest

from pipespec.emulation.words import HashLanguage, extend
from pipespec.ops.errors import SettingsError

CHAIN = HashLanguage(seed=7, vocab_size=95, agreements=(0.5, 0.9), first_word=35)
PROMPT = (1, 2, 3)
NUM_PREFIXES = 20_000
TOLERANCE = 0.015
"""Four standard deviations of a share of one half."""


def states_of(language: HashLanguage) -> list[int]:
    """States after every prefix of a long text of the target."""
    states = [language.begin()]
    for token in language.target_text((), NUM_PREFIXES):
        states.append(extend(states[-1], token))
    return states


def agreement(language: HashLanguage, one: int, other: int) -> float:
    """Share of prefixes after which two stages say the same."""
    states = states_of(language)
    return sum(language.pick(state, one) == language.pick(state, other) for state in states) / len(states)


def test_a_stage_agrees_with_the_next_as_often_as_it_was_told() -> None:
    assert agreement(CHAIN, 0, 1) == pytest.approx(0.5, abs=TOLERANCE)
    assert agreement(CHAIN, 1, 2) == pytest.approx(0.9, abs=TOLERANCE)


def test_disagreements_of_two_stages_are_independent() -> None:
    by_chance = 0.5 * 0.1 / 94
    assert agreement(CHAIN, 0, 2) == pytest.approx(0.5 * 0.9 + by_chance, abs=TOLERANCE)


@pytest.mark.parametrize(("asked", "share"), [(0.0, 0.0), (1.0, 1.0)])
def test_never_and_always_are_exact(asked: float, share: float) -> None:
    assert agreement(HashLanguage(1, 3, (asked,)), 0, 1) == share


def test_all_words_are_said_and_no_others() -> None:
    said = {CHAIN.pick(state, rank) for state in states_of(CHAIN) for rank in range(3)}
    assert said == set(range(35, 35 + 95))


def test_the_target_says_the_same_in_a_chain_and_alone() -> None:
    """So that chains of different length can be compared token by token."""
    alone = HashLanguage(seed=7, vocab_size=95, agreements=(), first_word=35)
    assert alone.target_text(PROMPT, 50) == CHAIN.target_text(PROMPT, 50)


def test_a_stage_says_the_same_whether_or_not_it_knows_the_earlier_ones() -> None:
    later = HashLanguage(seed=7, vocab_size=95, agreements=(0.9,), first_word=35)
    state = CHAIN.state_of(PROMPT)
    for _ in range(200):
        assert later.pick(state, 0) == CHAIN.pick(state, 1)
        state = extend(state, 0)


def test_one_wrong_token_changes_all_that_follows() -> None:
    right = CHAIN.target_text(PROMPT, 60)
    wrong = CHAIN.target_text((*PROMPT, right[0] + 1), 59)
    equal = sum(one == other for one, other in zip(right[1:], wrong, strict=True))
    assert equal <= 6


@pytest.mark.parametrize("prompt", [(2, 1, 3), (1, 2), (), (1, 2, 3, 0)])
def test_other_prompts_get_other_texts(prompt: tuple[int, ...]) -> None:
    assert CHAIN.target_text(prompt, 20) != CHAIN.target_text(PROMPT, 20)


def test_the_seeds_of_language_and_session_change_the_text() -> None:
    texts = {
        tuple(HashLanguage(seed, 95, ()).target_text(PROMPT, 20, session_seed=session_seed))
        for seed in (0, 1, 2**64)  # only 64 bits count
        for session_seed in (0, 1, 2**64 - 1)
    }
    assert len(texts) == 2 * 3


def test_the_text_after_a_prefix_goes_on_where_the_text_of_its_beginning_stopped() -> None:
    whole = CHAIN.target_text(PROMPT, 40)
    assert CHAIN.target_text((*PROMPT, *whole[:15]), 25) == whole[15:]


@pytest.mark.parametrize(
    ("vocab_size", "agreements", "said"),
    [
        (1, (), "at least 2 words .* got 1"),
        (5, (0.5, 1.5), "stage 1 .* got 1.5"),
        (5, (-0.1,), "stage 0 .* got -0.1"),
        (5, (float("nan"),), "got nan"),
    ],
)
def test_bad_settings_are_refused_with_their_value(
    vocab_size: int, agreements: tuple[float, ...], said: str
) -> None:
    with pytest.raises(SettingsError, match=said):
        HashLanguage(0, vocab_size, agreements)
