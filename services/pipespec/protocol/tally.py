"""Counts while a stage works; ``StageCounters`` is what is told of it.

A message must not change once it is made, and making one per step was the largest single cost of a step's bookkeeping.
"""

from __future__ import annotations

from dataclasses import dataclass

from pipespec.protocol.messages import StageCounters


@dataclass(slots=True)
class Tally:
    """As of ``StageCounters``, but growing."""

    steps: int = 0
    prefill_steps: int = 0
    tokens: int = 0
    checked: int = 0
    accepted: int = 0
    rollbacks: int = 0
    rolled_back: int = 0
    busy_us: int = 0

    def told(self) -> StageCounters:
        """What it is now."""
        return StageCounters(
            steps=self.steps,
            prefill_steps=self.prefill_steps,
            tokens=self.tokens,
            checked=self.checked,
            accepted=self.accepted,
            rollbacks=self.rollbacks,
            rolled_back=self.rolled_back,
            busy_us=self.busy_us,
        )
