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
        prompt_len: tokens of each prompt; random ids, so that no two are the same.
        max_tokens: generated per session.
    """

    num_sessions: int = 1000
    at_once: int = 8
    prompt_len: int = 8
    max_tokens: int = 4

    def workload(self, num_sessions: int, *, vocab_size: int, seed: int) -> Workload:
        """Random sessions; equal seeds give equal ones."""
        source = random.Random(seed)
        prompts = tuple(
            tuple(source.randrange(vocab_size) for _ in range(self.prompt_len)) for _ in range(num_sessions)
        )
        return Workload(prompts, self.max_tokens, stop_ids=())


@dataclass(frozen=True, slots=True)
class MemoryRow:
    """Before and after; before means loaded, and warm by ``at_once`` sessions.

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
