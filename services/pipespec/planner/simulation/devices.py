"""Devices of simulated stages: words from the hash language, times from a latency curve."""

from __future__ import annotations

from collections.abc import Sequence

from pipespec.emulation.curve import LatencyCurve
from pipespec.emulation.speaker import Speaker
from pipespec.protocol.ids import SessionId
from pipespec.protocol.messages import Open
from pipespec.protocol.work import Outcome, Work


class CurveDevice:
    """What a replica of an emulated stage computes on.

    Args:
        speaker: of the stage.
        curve: milliseconds of its steps.
        context_len: tokens (prompt and generated) that a session may hold.
        overhead_s: what the service adds to a step.
    """

    def __init__(self, speaker: Speaker, curve: LatencyCurve, *, context_len: int, overhead_s: float) -> None:
        self.context_len = context_len
        self._overhead_s = overhead_s
        self._speaker = speaker
        self._curve = curve

    def open(self, message: Open) -> None:
        """Make room for a session; opening it again starts afresh."""
        self._speaker.open(message.session, message.sampling)

    def close(self, session: SessionId) -> None:
        """Free a session; unknown ones are ignored."""
        self._speaker.close(session)

    def step(self, work: Work) -> Outcome:
        """One session's share of a step."""
        return self._speaker.answer(work)

    def seconds(self, batch: Sequence[Work]) -> float:
        """How long the step takes."""
        device_ms = self._curve.ms(sum(len(work.tokens) for work in batch), len(batch))
        return device_ms / 1000 + self._overhead_s
