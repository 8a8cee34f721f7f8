"""Keeps what users write from becoming control tokens.

Sits between a conversation and its chat template. Text such as ``<|im_end|>`` inside a message is put under a mark
before the template runs and back afterwards, so that whatever still spells a special token in the rendered text came
from the template. A conversation without such text passes unchanged.

A mark is ``U+FDD0 <number> U+FDD1``: noncharacters, which no template treats as white space or letters. A user's own
U+FDD0 is put under a mark as well, so that none can be forged.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

_OPEN, _CLOSE = "\ufdd0", "\ufdd1"
_MARK = re.compile(f"{_OPEN}([0-9]+){_CLOSE}")


class Quoting:
    """Marks of one conversation.

    Args:
        pattern: what must not be read as a control token; see ``special_text``.
    """

    def __init__(self, pattern: re.Pattern[str]) -> None:
        self._pattern = pattern
        self._quoted: list[str] = []

    @property
    def is_used(self) -> bool:
        """Whether anything had to be put under a mark."""
        return bool(self._quoted)

    def quote(self, text: str) -> str:
        """``text`` with marks in place of what the pattern finds."""
        return self._pattern.sub(self._mark, text)

    def unquote(self, text: str) -> str:
        """``text`` with what stood there in place of the marks."""
        return _MARK.sub(lambda mark: self._quoted[int(mark[1])], text)

    def _mark(self, found: re.Match[str]) -> str:
        self._quoted.append(found[0])
        return f"{_OPEN}{len(self._quoted) - 1}{_CLOSE}"


def special_text(special_tokens: Iterable[str]) -> re.Pattern[str]:
    """Pattern of everything that a user's text may not contain unmarked; the longest token wins."""
    longest_first = sorted(special_tokens, key=len, reverse=True)
    return re.compile("|".join(re.escape(text) for text in (*longest_first, _OPEN)))
