"""The model-free draft: what it guesses, and when it keeps silent."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from engine.schedule import make_work
from pipespec.engine.suffix import MAX_MATCH, SuffixEngine
from pipespec.ops.errors import InvariantBroken
from pipespec.protocol.ids import SessionId, TokenId
from pipespec.protocol.sampling import Sampling

SESSION = SessionId(b"0123456789abcdef")
OTHER = SessionId(b"fedcba9876543210")


def opened(*, min_match: int = 2) -> SuffixEngine:
    engine = SuffixEngine(min_match=min_match)
    engine.open(SESSION, prompt=[TokenId(0)], sampling=Sampling())
    return engine


def guess(
    engine: SuffixEngine,
    tokens: Sequence[int],
    *,
    start: int = 0,
    room: int = 8,
    num_candidates: int = 0,
    session: SessionId = SESSION,
) -> list[int]:
    work = make_work(
        session, start=start, tokens=tokens, num_candidates=num_candidates, num_prompt=1, room=room
    )
    return list(engine.step([work])[0].picks)


def test_continues_the_longest_earlier_match():
    assert guess(opened(), [7, 1, 2, 3, 4, 9, 2, 3, 5, 9, 1, 2, 3]) == [4, 9, 2]


def test_the_most_recent_of_equally_long_matches_wins():
    assert guess(opened(), [1, 2, 3, 8, 1, 2, 4, 9, 1, 2]) == [4, 9]


def test_no_match_gives_no_guess():
    assert guess(opened(), [1, 2, 3, 4]) == []
    assert guess(opened(min_match=3), [1, 2, 9, 1, 2]) == []


def test_a_match_of_n_tokens_proposes_at_most_n_and_never_more_than_room():
    text = [1, 2, 3, 4, 5, 6, 7, 8, 9, 1, 2, 3, 4]
    assert guess(opened(), text, room=99) == [5, 6, 7, 8]
    assert guess(opened(), text, room=3) == [5, 6, 7]
    long = list(range(100))
    assert len(guess(opened(), long + long[:60], room=999)) == MAX_MATCH


def test_a_prefill_chunk_is_read_and_not_answered():
    engine = opened()
    assert guess(engine, [1, 2, 3, 1, 2], room=0) == []
    assert guess(engine, [2], start=4) == [3, 1]


def test_a_repeating_text_is_continued_with_its_period():
    assert guess(opened(), [5, 6, 7] * 3, room=6) == [5, 6, 7, 5, 6, 7]
    assert guess(opened(min_match=1), [4, 4, 4], room=6) == [4, 4]


def test_a_guess_is_no_evidence_for_a_longer_one():
    """Its own words, fed back before anyone has checked them, do not earn another guess."""
    engine = opened()
    text = [1, 2, 3, 4, 5, 6, 1, 2]
    assert guess(engine, text, room=8) == [3, 4]
    assert guess(engine, [3, 4], start=8) == []


def test_a_guess_that_room_cut_short_goes_on():
    engine = opened()
    text = [1, 2, 3, 4, 5, 6, 1, 2, 3, 4]
    assert guess(engine, text, room=1) == [5]
    assert guess(engine, [5], start=10, room=8) == [6, 1, 2]
    assert guess(engine, [6, 1, 2], start=11, room=8) == []


def test_a_confirmed_guess_counts_as_text():
    """Once the target has added a word of its own, the longer match proposes more."""
    engine = opened()
    guess(engine, [1, 2, 3, 4, 5, 6, 7, 8, 9, 1, 2])
    assert guess(engine, [3, 4, 5], start=11) == [6, 7, 8, 9, 1]


def test_a_contradicted_guess_is_replaced():
    engine = opened()
    assert guess(engine, [1, 2, 3, 9, 4, 5, 3, 9, 1, 2]) == [3, 9]
    assert guess(engine, [4, 5], start=10) == [3, 9]


def test_candidates_are_passed_on_and_continued():
    """Without a model nothing can be checked, so nothing is contradicted."""
    engine = opened()
    assert guess(engine, [1, 2, 3, 4, 9, 1, 2], num_candidates=1, room=4) == [2, 3, 4]
    assert guess(engine, [7, 8], start=7, num_candidates=1, room=4) == [8]


def test_sessions_do_not_see_each_other():
    engine = opened()
    engine.open(OTHER, prompt=[TokenId(0)], sampling=Sampling())
    guess(engine, [1, 2, 3, 4])
    assert guess(engine, [1, 2], session=OTHER) == []


def test_opening_again_starts_an_empty_text():
    engine = opened()
    guess(engine, [1, 2, 3, 4])
    engine.open(SESSION, prompt=[TokenId(0)], sampling=Sampling())
    assert guess(engine, [1, 2]) == []


def test_work_that_does_not_fit_is_a_bug_of_ours():
    engine = opened()
    with pytest.raises(InvariantBroken, match="starts at 5, the text has 0"):
        guess(engine, [1], start=5)
    engine.close(SESSION)
    engine.close(SESSION)
    with pytest.raises(InvariantBroken, match="not open"):
        guess(engine, [1])
