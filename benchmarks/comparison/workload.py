"""What a contender is asked, what it answers, and the one way in which that is timed.

All sessions of a workload arrive at the same moment, so the time to a first token holds the wait for those before it.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from itertools import islice

WARM_UP_PROMPT = 16
WARM_UP_TOKENS = 4

Report = Callable[[float], None]
"""Told what fraction of the work is done, 0 to 1."""


def silent(_fraction: float) -> None:
    """A ``Report`` that tells nobody."""


@dataclass(frozen=True, slots=True)
class Workload:
    """Sessions that arrive together.

    Attributes:
        prompts: token ids, one prompt per session.
        max_tokens: to generate at most, per session.
        stop_ids: end a session; the ending token counts.
    """

    prompts: tuple[tuple[int, ...], ...]
    max_tokens: int
    stop_ids: tuple[int, ...]

    @property
    def context_len(self) -> int:
        """Tokens of the longest session, if it runs to its end."""
        return max(map(len, self.prompts)) + self.max_tokens

    def warm_up(self) -> Workload:
        """As many short sessions, whose prompts (the ends of these, backwards) begin none of these."""
        prompts = tuple(tuple(islice(reversed(prompt), WARM_UP_PROMPT)) for prompt in self.prompts)
        return Workload(prompts, min(WARM_UP_TOKENS, self.max_tokens), stop_ids=())


@dataclass(frozen=True, slots=True)
class Run:
    """How a workload went. Times are seconds since all sessions arrived.

    Attributes:
        outputs: generated ids, one tuple per session.
        first_token_s: when each session's first token was there.
        elapsed_s: until the last token of all.
        notes: what a contender counts of itself, such as accepted candidates.
    """

    outputs: tuple[tuple[int, ...], ...]
    first_token_s: tuple[float, ...]
    elapsed_s: float
    notes: Mapping[str, float] = field(default_factory=dict)

    @property
    def num_tokens(self) -> int:
        """Of all sessions."""
        return sum(map(len, self.outputs))

    @property
    def tokens_per_s(self) -> float:
        """Of all sessions together, prompts' time included."""
        return self.num_tokens / self.elapsed_s

    @property
    def median_first_token_s(self) -> float:
        """Over the sessions."""
        return statistics.median(self.first_token_s)


Generate = Callable[[Workload, Report], Run]
"""Serves one workload, with everything loaded."""


def warm_then_run(generate: Generate, workload: Workload, report: Report) -> Run:
    """Pay for what is set up lazily, then measure."""
    generate(workload.warm_up(), silent)
    return generate(workload, report)
