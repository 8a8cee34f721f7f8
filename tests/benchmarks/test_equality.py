"""Differences are found where they are."""

from __future__ import annotations

import pytest
from benchmarks.comparison.equality import Fork, find_forks, first_difference
from benchmarks.comparison.prompt import Kind, Prompt

PROMPTS = (Prompt("a", Kind.CODE, (1,)), Prompt("b", Kind.SUMMARY, (2,)))


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [([], [], None), ([1, 2], [1, 2], None), ([1, 2], [1, 3], 1), ([1, 2], [1], 1), ([], [5], 0)],
)
def test_the_first_difference_may_be_an_end(one: list[int], other: list[int], expected: int | None) -> None:
    assert first_difference(one, other) == expected


def test_equal_outputs_have_no_forks() -> None:
    assert find_forks("x", PROMPTS, expected=[[1, 2], [3]], outputs=[(1, 2), (3,)]) == []


def test_a_fork_says_who_where_and_what() -> None:
    forks = find_forks("x", PROMPTS, expected=[[1, 2], [3]], outputs=[(1, 2), (3, 4)])
    assert forks == [Fork("x", Kind.SUMMARY, "b", 2, position=1, expected=None, got=4)]


def test_a_lost_output_is_an_error_not_an_equality() -> None:
    with pytest.raises(ValueError, match="shorter"):
        find_forks("x", PROMPTS, expected=[[1], [2]], outputs=[(1,)])
