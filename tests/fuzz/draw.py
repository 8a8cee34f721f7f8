"""Choices made of bytes, so that a fuzzer that changes the bytes changes the choices; at the end of them all are 0."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

T = TypeVar("T")


class Draw:
    """Reads choices off ``data`` from its beginning."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    @property
    def is_over(self) -> bool:
        """Whether nothing is left to be read."""
        return self._at >= len(self._data)

    def below(self, limit: int) -> int:
        """A number from 0, of as few bytes as the limit needs."""
        size = max(1, ((limit - 1).bit_length() + 7) // 8)
        word = self._data[self._at : self._at + size]
        self._at += size
        return int.from_bytes(word, "little") % limit

    def one_of(self, choices: Sequence[T]) -> T:
        """One of them."""
        return choices[self.below(len(choices))]
