"""Whose word counts: one token log, and how far each rank of the chain has said the same.

Every rank (stages 0 … K-1, then the gateway with rank K) *claims* a prefix of the log::

    [0, said[K]) committed, final; [.., said[r]) said by rank r; [max(said), len) said by nobody (never happens)

One rule merges what anyone says: a later rank wins over an earlier one, and what the gateway committed is never
undone. Merging is idempotent and does not depend on the order of arrival, so loss, duplication and reordering
need nothing else. Source: DESIGN section 3, rules 1 and 2.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum, auto

from pipespec.ops.errors import InvariantBroken
from pipespec.protocol.ids import Digest, Position, Rank, TokenId
from pipespec.protocol.rules import Rules
from pipespec.protocol.tokenlog import TokenLog, mix

_NOT_CUT = 2**62


class Merge(Enum):
    """What became of a claim."""

    APPLIED = auto()
    """It fits: the log says so now, and may be longer or corrected."""
    STALE = auto()
    """A later rank has already said otherwise; only the agreeing part counts."""
    GAP = auto()
    """It begins beyond the end of the log; something is missing in between."""
    DIVERGED = auto()
    """It builds on another prefix than the log's."""


class ClaimedLog:
    """A token log with the claims of every rank."""

    def __init__(self, log: TokenLog, *, num_stages: int, rules: Rules) -> None:
        self.log = log
        self.gateway = Rank(num_stages)
        self._said = [0] * (num_stages + 1)
        self._said_from = [0] * (num_stages + 1)  # the largest of a rank and all later ones
        self._rules = rules
        self.low_water = _NOT_CUT

    def __len__(self) -> int:
        """Tokens in the log, claimed by whomever."""
        return len(self.log)

    @property
    def committed(self) -> Position:
        """Length of the final prefix."""
        return Position(self._said[self.gateway])

    def said(self, rank: Rank) -> Position:
        """How far ``rank`` itself has said what the log says."""
        return Position(self._said[rank])

    def said_from(self, rank: Rank) -> Position:
        """How far ``rank`` or a later one has said what the log says; rank K and beyond mean the gateway."""
        return Position(self._said_from[min(rank, self.gateway)])

    def merge(self, rank: Rank, *, base: Position, digest: Digest, tokens: Sequence[TokenId]) -> Merge:
        """Lay what ``rank`` says over the log.

        Args:
            rank: who says it.
            base: position of ``tokens[0]``.
            digest: of the speaker's log at ``base``.
            tokens: what it says from there on.
        """
        if base > len(self.log):
            return Merge.GAP
        if self._rules.check_digest and digest != self.log.digest_at(base):
            return Merge.DIVERGED
        end = base + len(tokens)
        fork = self.log.common_prefix(base, tokens)
        if fork < end:  # the claim differs from the log at `fork`, or goes on where the log ends
            floor = self._floor(rank)
            if fork < floor:
                self._raise(rank, fork)
                return Merge.STALE
            if fork < len(self.log):
                self._undo(fork)
            self.log.extend(tokens[fork - base :])
        self._raise(rank, end)
        return Merge.APPLIED

    def commit(self, committed: Position, digest: Digest, tail: Sequence[TokenId]) -> Merge:
        """Take over the gateway's word: the first ``committed`` tokens are final, ``tail`` are the last of them.

        ``digest`` is of the committed prefix. A log that already agrees needs no tail; else the tail must join it.
        """
        if committed <= len(self.log) and self.log.digest_at(committed) == digest:
            self._raise(self.gateway, committed)
            return Merge.APPLIED
        if not self._rules.state_corrects:
            return Merge.STALE
        base = Position(committed - len(tail))
        if base > len(self.log):
            return Merge.GAP
        joined = self.log.digest_at(base)
        for token in tail:
            joined = mix(joined, token)
        if joined != digest:
            return Merge.DIVERGED
        return self.merge(self.gateway, base=base, digest=self.log.digest_at(base), tokens=tail)

    def take_low_water(self) -> int:
        """The shortest that the log was cut to since the last call: what a cache may still hold of it."""
        low, self.low_water = self.low_water, _NOT_CUT
        return low

    def forget_claims(self, own: Rank) -> None:
        """A new route: what other stages said beyond the committed prefix is theirs no longer; ours it stays."""
        mine = self.said_from(own)
        for rank in range(self.gateway):
            self._said[rank] = min(self._said[rank], self.committed)
        self._said_from = [self.committed] * len(self._said)
        self._raise(own, mine)

    def drop_unsaid(self, own: Rank) -> None:
        """Forget candidates: tokens that only earlier ranks have said."""
        self._undo(self.said_from(own))

    def _floor(self, rank: Rank) -> int:
        """Up to here ``rank`` may not change the log."""
        if not self._rules.later_rank_wins:
            return self._said[self.gateway]
        return self._said_from[min(rank + 1, self.gateway)]

    def _raise(self, rank: Rank, end: int) -> None:
        """``rank`` has said what the log says up to ``end``, or further."""
        self._said[rank] = max(self._said[rank], end)
        for earlier in range(rank, -1, -1):
            if self._said_from[earlier] >= end:
                return
            self._said_from[earlier] = end

    def _undo(self, length: int) -> None:
        if length < self._said[self.gateway]:
            raise InvariantBroken(f"undo to {length}, below the {self._said[self.gateway]} committed tokens")
        self.log.truncate(length)
        self.low_water = min(self.low_water, length)
        self._said = [min(said, length) for said in self._said]
        self._said_from = [min(said, length) for said in self._said_from]
