"""The protocol's time spans, in seconds. Plain numbers: whoever calls the core brings the clock."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

from pipespec.ops.pipeline import TimerSettings


@dataclass(frozen=True, slots=True)
class Timers:
    """See ``TimerSettings`` for what each is for and why it has its default."""

    heartbeat_s: float
    dead_s: float
    stall_s: float
    lease_s: float
    sync_s: float
    prefill_s_per_token: float = 0.0
    hung_s: float = 15.0
    lost_s: float = 30.0

    @classmethod
    def of(cls, settings: TimerSettings) -> Self:
        """Convert from the pipeline file's milliseconds."""
        return cls(
            heartbeat_s=settings.heartbeat_ms / 1000,
            dead_s=settings.dead_ms / 1000,
            stall_s=settings.stall_ms / 1000,
            lease_s=settings.lease_ms / 1000,
            sync_s=settings.sync_ms / 1000,
            hung_s=settings.hung_ms / 1000,
            lost_s=settings.lost_ms / 1000,
            prefill_s_per_token=settings.prefill_ms_per_token / 1000,
        )
