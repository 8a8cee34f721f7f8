"""The suffix index against brute force, under any sequence of extensions and truncations."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipespec.engine import suffix_index
from pipespec.engine.suffix_index import Match, SuffixIndex
from pipespec.protocol.ids import TokenId

MAX_LENGTH = 6

edits = st.lists(
    st.one_of(
        st.lists(st.integers(0, 2), max_size=12),  # extend by these
        st.floats(0, 1),  # truncate to this share
    ),
    max_size=30,
)


def brute_force(text: list[int], *, gram: int, chain: int) -> Match | None:
    """Longest common suffix with every earlier end, looked at from the last; the first of equals."""
    matches = []
    for end in range(len(text) - 1, 0, -1):
        length = 0
        while length < min(end, MAX_LENGTH) and text[end - 1 - length] == text[len(text) - 1 - length]:
            length += 1
        if length >= gram:
            matches.append(Match(end, length))
    return max(matches[:chain], key=lambda match: match.length, default=None)


def check(edits: list[list[int] | float], *, gram: int, chain: int) -> None:
    index = SuffixIndex(gram=gram, max_length=MAX_LENGTH)
    text: list[int] = []
    for edit in edits:
        if isinstance(edit, list):
            text += edit
            index.extend([TokenId(token) for token in edit])
        else:
            text = text[: int(edit * len(text))]
            index.truncate(len(text))
        assert index.tokens == text
        assert index.longest_match() == brute_force(text, gram=gram, chain=chain)


@given(edits, st.integers(1, 3))
def test_any_edits_leave_what_brute_force_finds(edits, gram):
    check(edits, gram=gram, chain=suffix_index.MAX_CHAIN)


@pytest.mark.parametrize("chain", [1, 3])
def test_the_search_looks_at_the_most_recent_occurrences_only(monkeypatch, chain):
    """With a shorter chain, an older and longer match may be missed; never a more recent one."""
    monkeypatch.setattr(suffix_index, "MAX_CHAIN", chain)

    @given(edits)
    def run(edits):
        check(edits, gram=1, chain=chain)

    run()


def test_truncating_to_nothing_forgets_everything():
    index = SuffixIndex(gram=2, max_length=MAX_LENGTH)
    index.extend([TokenId(token) for token in (1, 2, 1, 2, 1, 2)])
    index.truncate(0)
    assert index._last == {}
    assert index._before == []


def test_memory_is_bounded_by_the_text_under_rollbacks():
    index = SuffixIndex(gram=2, max_length=MAX_LENGTH)
    for token in range(2000):
        index.extend([TokenId(token), TokenId(token + 1), TokenId(token + 2)])
        index.truncate(len(index.tokens) - 2)
    assert len(index._before) == len(index.tokens) == 2000
    assert len(index._last) <= 2000
