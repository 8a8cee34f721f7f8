"""Stop strings: ends a text where one of them appears, wherever token borders fall.

Only the tail that may still become a stop string is held back. The text before the stop string is delivered, nothing
from it on. Of several, the one that is complete first wins, as if the text had come character by character.
"""

from __future__ import annotations

from collections.abc import Sequence


class StopStrings:
    """Watches one stream.

    Args:
        strings: none of them empty.
    """

    def __init__(self, strings: Sequence[str]) -> None:
        self._strings = tuple(strings)
        self._held = ""
        self.hit: str | None = None
        """The stop string that ended the text."""

    def push(self, text: str) -> str:
        """Add ``text``; return what can be delivered. After a hit, everything is dropped."""
        if self.hit is not None:
            return ""
        if not self._strings:
            return text
        self._held += text
        found = [
            (start + len(stop), start, stop)
            for stop in self._strings
            if (start := self._held.find(stop)) >= 0
        ]
        if found:
            _, start, self.hit = min(found)
            self._held = self._held[:start]
            return self.flush()
        keep = max((_overlap(self._held, stop) for stop in self._strings), default=0)
        cut = len(self._held) - keep
        ready, self._held = self._held[:cut], self._held[cut:]
        return ready

    def flush(self) -> str:
        """Return what was held back; the text ends here."""
        ready, self._held = self._held, ""
        return ready


def _overlap(text: str, stop: str) -> int:
    """Length of the longest end of ``text`` that begins ``stop``."""
    for length in range(min(len(text), len(stop) - 1), 0, -1):
        if text.endswith(stop[:length]):
            return length
    return 0
