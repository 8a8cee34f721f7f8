"""Sessions that come and go, and what memory was held before and after."""

from __future__ import annotations

import random
from dataclasses import dataclass

from .workload import Workload


@dataclass(frozen=True, slots=True)
class Churn:
    """How much comes and goes.

    Attributes:
        num_sessions: altogether.
        at_once: open at the same time.
        num_before: sessions that come and go first: they go through the pool several times, and bring prompts of all lengths.
        shortest, longest: tokens of a prompt, short ones more often; random ids, so that no two are the same.
        max_tokens: generated per session.
        cache_gib: of the pool, small enough that ``num_before`` sessions use all of it.
    """

    num_sessions: int = 1000
    at_once: int = 8
    num_before: int = 100
    shortest: int = 20
    longest: int = 400
    max_tokens: int = 4
    cache_gib: float = 0.15

    def workload(self, num_sessions: int, *, vocab_size: int, seed: int) -> Workload:
        """Random sessions; equal seeds give equal ones."""
        source = random.Random(seed)
        lengths = [
            round(self.shortest * (self.longest / self.shortest) ** source.random())
            for _ in range(num_sessions)
        ]
        prompts = tuple(tuple(source.randrange(vocab_size) for _ in range(length)) for length in lengths)
        return Workload(prompts, self.max_tokens, stop_ids=())


@dataclass(frozen=True, slots=True)
class MemoryRow:
    """Before and after; before means loaded, and warm by sessions of all lengths.

    Attributes:
        num_sessions: that came and went in between.
        rss_before_mib, rss_after_mib: of the process.
        blocks_before, blocks_after: held by sessions.
        cached_after: blocks that nobody holds, kept for their content.
        num_blocks: of the pool.
    """

    num_sessions: int
    rss_before_mib: float
    rss_after_mib: float
    blocks_before: int
    blocks_after: int
    cached_after: int
    num_blocks: int
