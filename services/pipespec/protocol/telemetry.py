"""What the heartbeats of a fleet say together: who lives, and what they did per second lately.

Sans-I/O. Counters run from the start of a process; rates are differences over a window. A restarted replica has another
incarnation and starts with none. Replicas that are silent for ``dead_s`` are left out.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Generic, TypeVar

from pipespec.protocol.ids import Incarnation, Topic
from pipespec.protocol.messages import Envelope, GatewayHeartbeat, Heartbeat, StageCounters

Beat = TypeVar("Beat", Heartbeat, GatewayHeartbeat)
Counting = TypeVar("Counting", StageCounters, GatewayHeartbeat)


@dataclass(frozen=True, slots=True)
class StageReading:
    """A stage replica that lives. Rates are over ``window_s`` and None before the second heartbeat.

    Attributes:
        beat: its last heartbeat.
        age_s: of it.
        window_s: between the heartbeats that the rates are made of.
        busy: share of the time inside steps.
        steps_per_s: forward passes.
        tokens_per_s: own tokens published.
        checked_per_s: candidates of earlier stages.
        accepted_per_s: those of them that were right.
        rollbacks_per_s: steps that contradicted a candidate.
    """

    beat: Heartbeat
    age_s: float
    window_s: float = 0.0
    busy: float | None = None
    steps_per_s: float | None = None
    tokens_per_s: float | None = None
    checked_per_s: float | None = None
    accepted_per_s: float | None = None
    rollbacks_per_s: float | None = None


@dataclass(frozen=True, slots=True)
class GatewayReading:
    """A gateway that lives; rates as of ``StageReading``.

    Attributes:
        beat: its last heartbeat.
        age_s: of it.
        window_s: between the heartbeats that the rates are made of.
        tokens_per_s: committed.
        refused_per_s: sessions for which there was no room.
        followed_per_s: tokens that came after their session's first commit.
        ms_per_token: that sessions waited for each of these; None where there were none.
    """

    beat: GatewayHeartbeat
    age_s: float
    window_s: float = 0.0
    tokens_per_s: float | None = None
    refused_per_s: float | None = None
    followed_per_s: float | None = None
    ms_per_token: float | None = None


class _Voice(Generic[Beat]):
    """One process's heartbeats within the window, the oldest first."""

    def __init__(self, incarnation: Incarnation) -> None:
        self.incarnation = incarnation
        self.number = 0
        self.beats: deque[tuple[float, Beat]] = deque()

    def hear(self, now: float, number: int, beat: Beat, *, window_s: float) -> None:
        if number <= self.number:  # again, or late by another broker
            return
        self.number = number
        self.beats.append((now, beat))
        while len(self.beats) > 2 and self.beats[1][0] <= now - window_s:
            self.beats.popleft()


class Telemetry:
    """Readings of all stage replicas and gateways of a fleet.

    Args:
        dead_s: silence after which a replica is left out.
        window_s: that rates are taken over.
    """

    def __init__(self, *, dead_s: float, window_s: float = 5.0) -> None:
        self._dead_s = dead_s
        self._window_s = window_s
        self._stages: dict[Topic, _Voice[Heartbeat]] = {}
        self._gateways: dict[Topic, _Voice[GatewayHeartbeat]] = {}

    def on_envelope(self, now: float, envelope: Envelope) -> None:
        """Note a heartbeat; anything else is ignored."""
        match envelope.message:
            case Heartbeat() as beat:
                self._hear(self._stages, now, envelope, beat)
            case GatewayHeartbeat() as beat:
                self._hear(self._gateways, now, envelope, beat)
            case _:
                pass

    def _hear(self, voices: dict[Topic, _Voice[Beat]], now: float, envelope: Envelope, beat: Beat) -> None:
        voice = voices.get(envelope.sender)
        if voice is None or (voice.incarnation != envelope.incarnation and self._is_silent(now, voice)):
            voice = voices[envelope.sender] = _Voice(envelope.incarnation)
        if voice.incarnation == envelope.incarnation:
            voice.hear(now, envelope.number, beat, window_s=self._window_s)

    def _is_silent(self, now: float, voice: _Voice[Beat]) -> bool:
        return now - voice.beats[-1][0] > self._dead_s

    def _living(self, now: float, voices: dict[Topic, _Voice[Beat]]) -> list[_Voice[Beat]]:
        for topic in [topic for topic, voice in voices.items() if self._is_silent(now, voice)]:
            del voices[topic]
        return list(voices.values())

    def stages(self, now: float) -> list[StageReading]:
        """Of the stage replicas that live, by rank and name."""
        readings = [_read_stage(now, voice) for voice in self._living(now, self._stages)]
        return sorted(readings, key=lambda reading: (reading.beat.rank, reading.beat.replica))

    def gateways(self, now: float) -> list[GatewayReading]:
        """Of the gateways that live, by name."""
        readings = [_read_gateway(now, voice) for voice in self._living(now, self._gateways)]
        return sorted(readings, key=lambda reading: reading.beat.replica)


def _read_stage(now: float, voice: _Voice[Heartbeat]) -> StageReading:
    (first_s, first), (last_s, last) = voice.beats[0], voice.beats[-1]
    window_s = last_s - first_s
    if window_s <= 0:
        return StageReading(last, now - last_s)
    rates = _rates(first.counters, last.counters, window_s)
    return StageReading(
        last,
        now - last_s,
        window_s,
        busy=min(1.0, rates["busy_us"] / 1e6),
        steps_per_s=rates["steps"],
        tokens_per_s=rates["tokens"],
        checked_per_s=rates["checked"],
        accepted_per_s=rates["accepted"],
        rollbacks_per_s=rates["rollbacks"],
    )


def _read_gateway(now: float, voice: _Voice[GatewayHeartbeat]) -> GatewayReading:
    (first_s, first), (last_s, last) = voice.beats[0], voice.beats[-1]
    window_s = last_s - first_s
    if window_s <= 0:
        return GatewayReading(last, now - last_s)
    rates = _rates(first, last, window_s)
    followed = rates["followed"]
    return GatewayReading(
        last,
        now - last_s,
        window_s,
        tokens_per_s=rates["tokens"],
        refused_per_s=rates["refused"],
        followed_per_s=followed,
        ms_per_token=rates["followed_us"] / followed / 1e3 if followed else None,
    )


def _rates(first: Counting, last: Counting, window_s: float) -> Mapping[str, float]:
    """Per second, of all whole numbers."""
    names = [field.name for field in fields(last) if type(getattr(last, field.name)) is int]
    return {name: (getattr(last, name) - getattr(first, name)) / window_s for name in names}
