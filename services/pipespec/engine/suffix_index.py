"""Finds where the end of a text occurred before: hash chains, as in LZ77 compressors.

Every position remembers the position before it that ended with the same ``gram`` tokens; a dictionary holds the last
one of each gram. Both are undone token by token, so truncation is exact. About a microsecond per token, one
dictionary entry per distinct gram.

Invariant: ``_last[g]`` is the greatest end of gram ``g`` in the text, and the chain from it visits all its earlier ends.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pipespec.protocol.ids import TokenId

MAX_CHAIN = 256
"""Occurrences that one search looks at, most recent first; bounds it where a common gram has thousands."""

_NONE = -1


@dataclass(frozen=True, slots=True)
class Match:
    """An earlier occurrence of the text's last ``length`` tokens, which ends before ``end``."""

    end: int
    length: int


class SuffixIndex:
    """A text that can be extended, truncated and searched for earlier occurrences of its end.

    Args:
        gram: shortest match, in tokens, >= 1.
        max_length: longest match that is told apart, >= ``gram``.
    """

    def __init__(self, *, gram: int, max_length: int) -> None:
        self.tokens: list[TokenId] = []
        self._gram = gram
        self._max_length = max_length
        self._last: dict[tuple[TokenId, ...], int] = {}
        self._before: list[int] = []  # [p - 1]: end before p with the same gram, _NONE where there is none

    def extend(self, tokens: Sequence[TokenId]) -> None:
        """Append to the text."""
        text, gram = self.tokens, self._gram
        text.extend(tokens)
        for end in range(len(text) - len(tokens) + 1, len(text) + 1):
            if end < gram:
                self._before.append(_NONE)
                continue
            key = tuple(text[end - gram : end])
            self._before.append(self._last.get(key, _NONE))
            self._last[key] = end

    def truncate(self, length: int) -> None:
        """Cut the text to its first ``length`` tokens; a shorter text stays as it is."""
        text, gram = self.tokens, self._gram
        for end in range(len(text), length, -1):
            before = self._before.pop()
            if end >= gram:
                key = tuple(text[end - gram : end])
                if before == _NONE:
                    del self._last[key]
                else:
                    self._last[key] = before
        del text[length:]

    def longest_match(self) -> Match | None:
        """The longest earlier occurrence of the text's end, the most recent of equals; None below ``gram`` tokens.

        Looks at the ``MAX_CHAIN`` most recent occurrences of the last ``gram`` tokens.
        """
        best: Match | None = None
        end = self._before[-1] if self._before else _NONE
        for _ in range(MAX_CHAIN):
            if end == _NONE or (best is not None and best.length == self._max_length):
                break
            length = self._match_length(end)
            if best is None or length > best.length:
                best = Match(end, length)
            end = self._before[end - 1]
        return best

    def _match_length(self, end: int) -> int:
        """How many tokens before ``end`` equal the text's last ones, ``gram`` of which are known to."""
        text = self.tokens
        limit = min(self._max_length, end)
        shift = len(text) - end
        length = self._gram
        while length < limit and text[end - length - 1] == text[end + shift - length - 1]:
            length += 1
        return length
