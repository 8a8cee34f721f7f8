"""The draft without a model: continues the longest earlier match of the session's own text.

Costs microseconds, needs neither weights nor torch, and is right wherever a text repeats itself: code, lists, quotes,
rewriting. A wrong guess costs the later stages time, so a match of n tokens proposes at most n, and a guess is never
taken as evidence for a longer one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from pipespec.engine.suffix_index import SuffixIndex
from pipespec.ops.errors import InvariantBroken
from pipespec.protocol.ids import SessionId, TokenId
from pipespec.protocol.sampling import Sampling
from pipespec.protocol.work import CacheUse, Outcome, Work, idle

MAX_MATCH = 32
"""Longest match, hence longest guess; more agreement than this tells nothing new."""

_ANY = 2**32 - 1
"""Greater than any id or length that the protocol can say."""

_MAX_CHUNK = 4096


class SuffixEngine:
    """An ``Engine`` whose picks are guesses.

    Args:
        min_match: tokens that must have occurred before, >= 1.
    """

    max_batch = 1024
    max_chunk = _MAX_CHUNK
    max_step_tokens = 16 * _MAX_CHUNK
    vocab_size = _ANY
    context_len = _ANY
    is_model_free = True
    cache_use = CacheUse()

    def __init__(self, *, min_match: int) -> None:
        self._min_match = min_match
        self._sessions: dict[SessionId, _SuffixSession] = {}

    def open(self, session: SessionId, *, prompt: Sequence[TokenId], sampling: Sampling) -> None:
        """Start an empty text; ``prompt`` comes again as work, as it does for a model."""
        del prompt, sampling
        self._sessions[session] = _SuffixSession(self._min_match)

    def step(self, batch: Sequence[Work], *, meanwhile: Callable[[], None] = idle) -> list[Outcome]:
        """Guess for every item; no picks where nothing matches."""
        meanwhile()
        return [self._step_one(work) for work in batch]

    def close(self, session: SessionId) -> None:
        """Forget a session's text."""
        self._sessions.pop(session, None)

    def _step_one(self, work: Work) -> Outcome:
        session = self._sessions.get(work.session)
        if session is None:
            raise InvariantBroken(f"work for session {work.session.hex()}, which is not open")
        session.replace_from(work.start, work.tokens, whose=work.session)
        held = work.start + len(work.tokens)
        if work.room == 0:
            return Outcome([], held)
        candidates = list(work.candidates)
        return Outcome((candidates + session.guess(work.room - len(candidates)))[: work.room], held)


class _SuffixSession:
    """One session's text, and what was guessed at its end.

    ``[0, anchor) text; [anchor, anchor + len(run)) guessed there`` from a match that allowed ``budget`` tokens. While the
    text ends within the run, nothing new is known, and the guess only goes on until the budget is spent.
    """

    def __init__(self, min_match: int) -> None:
        self._index = SuffixIndex(gram=min_match, max_length=max(MAX_MATCH, min_match))
        self._anchor = 0
        self._run: list[TokenId] = []
        self._budget = 0

    def replace_from(self, start: int, tokens: Sequence[TokenId], *, whose: SessionId) -> None:
        """Make ``tokens`` the text from ``start`` on.

        Raises:
            InvariantBroken: ``start`` is beyond the text.
        """
        if start > len(self._index.tokens):
            raise InvariantBroken(
                f"session {whose.hex()}: work starts at {start}, the text has {len(self._index.tokens)} tokens"
            )
        self._index.truncate(start)
        self._index.extend(tokens)

    def guess(self, room: int) -> list[TokenId]:
        """At most ``room`` tokens that may come next."""
        text = self._index.tokens
        if not self._ends_in_run(text):
            self._anchor, self._run, self._budget = len(text), [], 0
        match = self._index.longest_match()
        if match is None:
            return []
        if self._anchor == len(text):
            self._budget = match.length
        num_guessed = len(text) - self._anchor
        period = len(text) - match.end
        num_tokens = max(0, min(room, self._budget - num_guessed))
        # A match that overlaps the end continues into the guess itself: the text repeats with this period.
        guess = [text[match.end + index % period] for index in range(num_tokens)]
        self._run[num_guessed:] = guess
        return guess

    def _ends_in_run(self, text: Sequence[TokenId]) -> bool:
        num_guessed = len(text) - self._anchor
        return 0 <= num_guessed <= len(self._run) and list(text[self._anchor :]) == self._run[:num_guessed]
