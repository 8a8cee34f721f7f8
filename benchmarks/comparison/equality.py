"""Are two outputs the same, and where do they part?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import zip_longest

from .prompt import Kind, Prompt


@dataclass(frozen=True, slots=True)
class Fork:
    """Where a contender's output leaves the reference's.

    Attributes:
        contender: its name.
        kind, prompt: what it was asked.
        sessions: at once, when it happened.
        position: of the first token that differs, from 0.
        expected: the reference's token there; None where its output has ended.
        got: the contender's; None likewise.
        gap: logit of ``expected`` minus that of ``got``; None where one of them is.
    """

    contender: str
    kind: Kind
    prompt: str
    sessions: int
    position: int
    expected: int | None
    got: int | None
    gap: float | None = None


@dataclass(frozen=True, slots=True)
class Candidates:
    """Two words for one place: ``expected`` and ``got`` after ``context``."""

    context: tuple[int, ...]
    expected: int
    got: int


def find_forks(
    contender: str,
    prompts: Sequence[Prompt],
    *,
    expected: Sequence[Sequence[int]],
    outputs: Sequence[Sequence[int]],
) -> list[Fork]:
    """One fork for each prompt whose output differs; the prompts were asked at once.

    Raises:
        ValueError: there are not as many outputs as prompts.
    """
    forks = []
    for prompt, wanted, output in zip(prompts, expected, outputs, strict=True):
        position = first_difference(wanted, output)
        if position is not None:
            forks.append(
                Fork(
                    contender,
                    prompt.kind,
                    prompt.name,
                    len(prompts),
                    position,
                    _at(wanted, position),
                    _at(output, position),
                )
            )
    return forks


def first_difference(one: Sequence[int], other: Sequence[int]) -> int | None:
    """Index of the first difference; None for equal sequences."""
    pairs = enumerate(zip_longest(one, other))
    return next((index for index, (a, b) in pairs if a != b), None)


def _at(ids: Sequence[int], position: int) -> int | None:
    return ids[position] if position < len(ids) else None
