"""A completion and when its tokens arrived: what the summaries of ``generate``, ``chat`` and ``demo`` are made from."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from pipespec.client import Completion, StageReport, Stream


@dataclass(frozen=True, slots=True)
class Measured:
    """One request. Times are seconds since it was sent.

    Attributes:
        completion: what came.
        arrivals_s: of each token, in order; tokens of one chunk arrive together.
        total_s: until the end of the stream.
    """

    completion: Completion
    arrivals_s: tuple[float, ...]
    total_s: float

    @property
    def num_tokens(self) -> int:
        """Tokens generated."""
        return self.completion.usage.completion_tokens

    @property
    def first_token_s(self) -> float:
        """Until the first token; the whole time when there is none."""
        return self.arrivals_s[0] if self.arrivals_s else self.total_s

    @property
    def tokens_per_s(self) -> float:
        """Tokens by the time to the last one, the prompt's share included."""
        last_s = self.arrivals_s[-1] if self.arrivals_s else self.total_s
        return self.num_tokens / last_s if last_s > 0 else 0.0

    @property
    def target(self) -> StageReport | None:
        """What the target did; None when it did not report."""
        return self.completion.stats[-1] if self.completion.stats else None

    @property
    def tokens_per_target_step(self) -> float | None:
        """Tokens of the target by its decoding steps; 1 without speculation. None without a report."""
        if self.target is None or self.target.steps <= self.target.prefill_steps:
            return None
        return self.target.tokens / (self.target.steps - self.target.prefill_steps)

    def gap_s(self, percentile: float) -> float:
        """Time between a token and the next, at ``percentile`` of all gaps (nearest rank, 0 to 100)."""
        gaps = sorted(
            later - earlier for earlier, later in zip(self.arrivals_s, self.arrivals_s[1:], strict=False)
        )
        if not gaps:
            return 0.0
        return gaps[min(len(gaps) - 1, int(len(gaps) * percentile / 100))]


def measure(open_stream: Callable[[], Stream], *, on_text: Callable[[str], None]) -> Measured:
    """Read a stream to its end.

    Args:
        open_stream: sends the request.
        on_text: told each piece of text as it comes.

    Raises:
        RequestError: the request failed.
    """
    started_s = time.monotonic()
    arrivals_s: list[float] = []
    with open_stream() as stream:
        for chunk in stream:
            arrivals_s += [time.monotonic() - started_s] * len(chunk.token_ids)
            on_text(chunk.text)
        return Measured(stream.completion, tuple(arrivals_s), time.monotonic() - started_s)
