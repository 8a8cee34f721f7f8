"""A fleet at one glance: per stage and gateway who lives, what they hold, and what they do per second."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from pipespec.protocol.telemetry import GatewayReading, StageReading, Telemetry


@dataclass(frozen=True, slots=True)
class StageRow:
    """One stage, or one replica of it. Rates are None before two heartbeats of some replica.

    Attributes:
        rank: of the stage.
        name: ``""`` for a whole stage, else the replica's.
        model: what it runs, for people; of the first replica.
        replicas: that live.
        ready: those of them that take sessions.
        draining: those of them that end.
        sessions: held.
        max_sessions: that could be held.
        busy: share of the time inside steps, the mean of the replicas.
        steps_per_s: forward passes.
        tokens_per_s: own tokens published.
        acceptance: of the candidates that it checked, the share that was right; None where it checked none.
        rollbacks_per_s: steps that contradicted a candidate.
    """

    rank: int
    name: str
    model: str
    replicas: int
    ready: int
    draining: int
    sessions: int
    max_sessions: int
    busy: float | None
    steps_per_s: float | None
    tokens_per_s: float | None
    acceptance: float | None
    rollbacks_per_s: float | None


@dataclass(frozen=True, slots=True)
class FleetView:
    """Everything at one moment.

    Attributes:
        stages: one row each, from the smallest; a stage of which nobody lives has a row of zeros.
        replicas: one row each.
        gateways: their readings.
    """

    stages: tuple[StageRow, ...]
    replicas: tuple[StageRow, ...]
    gateways: tuple[GatewayReading, ...]

    @property
    def tokens_per_s(self) -> float | None:
        """Committed, of all gateways."""
        return _sum(gateway.tokens_per_s for gateway in self.gateways)

    @property
    def ms_per_token(self) -> float | None:
        """That a stream waits for a token after its first commit; None where nothing streams."""
        followed = _sum(gateway.followed_per_s for gateway in self.gateways)
        waited = _sum(
            gateway.ms_per_token * gateway.followed_per_s
            for gateway in self.gateways
            if gateway.ms_per_token is not None and gateway.followed_per_s is not None
        )
        return waited / followed if followed and waited is not None else None

    def document(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "tokens_per_s": self.tokens_per_s,
            "ms_per_token": self.ms_per_token,
            "stages": [asdict(row) for row in self.stages],
            "replicas": [asdict(row) for row in self.replicas],
            "gateways": [asdict(reading) for reading in self.gateways],
        }


def fleet_view(telemetry: Telemetry, now: float, *, num_stages: int) -> FleetView:
    """What the heartbeats say at ``now``."""
    readings = telemetry.stages(now)
    by_rank = [[one for one in readings if one.beat.rank == rank] for rank in range(num_stages)]
    return FleetView(
        stages=tuple(_row(rank, "", ones) for rank, ones in enumerate(by_rank)),
        replicas=tuple(_row(one.beat.rank, one.beat.replica, [one]) for one in readings),
        gateways=tuple(telemetry.gateways(now)),
    )


def _row(rank: int, name: str, readings: Sequence[StageReading]) -> StageRow:
    beats = [reading.beat for reading in readings]
    busy = [reading.busy for reading in readings if reading.busy is not None]
    checked = _sum(reading.checked_per_s for reading in readings)
    accepted = _sum(reading.accepted_per_s for reading in readings)
    return StageRow(
        rank=rank,
        name=name,
        model=beats[0].model if beats else "",
        replicas=len(beats),
        ready=sum(beat.ready for beat in beats),
        draining=sum(beat.draining for beat in beats),
        sessions=sum(beat.sessions for beat in beats),
        max_sessions=sum(beat.max_sessions for beat in beats),
        busy=sum(busy) / len(busy) if busy else None,
        steps_per_s=_sum(reading.steps_per_s for reading in readings),
        tokens_per_s=_sum(reading.tokens_per_s for reading in readings),
        acceptance=accepted / checked if checked and accepted is not None else None,
        rollbacks_per_s=_sum(reading.rollbacks_per_s for reading in readings),
    )


def _sum(values: Iterable[float | None]) -> float | None:
    """Of those that are known; None where none is."""
    known = [value for value in values if value is not None]
    return sum(known) if known else None
