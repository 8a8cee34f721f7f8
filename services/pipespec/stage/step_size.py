"""How many tokens a step may have: less after a device had no memory for one, more again when steps go well.

What took the memory may have been passing: another process, a fragmented pool, one unusual step. Growing again costs a
failed step where it was not; how often that happens is bounded by the steps in between, not by hope.
"""

from __future__ import annotations

import structlog

GOOD_STEPS = 100
"""In a row before steps of twice the size are tried."""

log = structlog.get_logger(__name__)


class StepSize:
    """Of one engine.

    Args:
        most: tokens that the engine takes in one step when memory is no matter.

    Attributes:
        most: tokens that a step may have now.
        num_too_large: steps that the device had no memory for.
    """

    def __init__(self, most: int) -> None:
        self.most = most
        self.num_too_large = 0
        self._engine_most = most
        self._num_good = 0

    def on_good(self) -> None:
        """A step was made."""
        if self.most == self._engine_most:
            return
        self._num_good += 1
        if self._num_good == GOOD_STEPS:
            self._num_good = 0
            self.most = min(2 * self.most, self._engine_most)
            log.info("step.larger_again", next=self.most, at_most=self._engine_most)

    def on_out_of_memory(self, tokens: int, problem: str) -> None:
        """A step of ``tokens``, two at least, was too large."""
        self.num_too_large += 1
        self._num_good = 0
        self.most = tokens // 2
        log.warning("step.out_of_memory", tokens=tokens, next=self.most, problem=problem[:200])
