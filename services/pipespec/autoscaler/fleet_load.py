"""From heartbeats to what the planner is told of a fleet."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from pipespec.planner.scaling.load import FleetLoad, StageUse
from pipespec.protocol.ids import Rank
from pipespec.protocol.telemetry import GatewayReading, StageReading


def fleet_load(
    now_s: float,
    *,
    num_stages: int,
    stages: Sequence[StageReading],
    gateways: Sequence[GatewayReading],
    replicas: Mapping[Rank, int],
) -> FleetLoad:
    """A snapshot.

    Args:
        now_s: on the clock of the readings.
        num_stages: of the chain.
        stages: readings of the replicas that live.
        gateways: readings of the gateways that live, over the time since the snapshot before.
        replicas: that the cluster was asked for; of stages that are not in it, as many as live.
    """
    uses = [
        _use([one for one in stages if one.beat.rank == rank], asked=replicas.get(Rank(rank)))
        for rank in range(num_stages)
    ]
    return FleetLoad(
        now_s=now_s,
        stages=tuple(uses),
        sessions=sum(one.beat.sessions for one in gateways),
        refused=round(sum((one.refused_per_s or 0.0) * one.window_s for one in gateways)),
        ms_per_token=ms_per_token(gateways),
    )


def ms_per_token(gateways: Iterable[GatewayReading]) -> float | None:
    """That streams waited for a token lately, mean over all tokens; None where there were none."""
    waits = [
        (one.followed_per_s, one.ms_per_token)
        for one in gateways
        if one.followed_per_s and one.ms_per_token is not None
    ]
    tokens = sum(rate for rate, _ in waits)
    return sum(rate * ms for rate, ms in waits) / tokens if tokens else None


def _use(readings: Sequence[StageReading], *, asked: int | None) -> StageUse:
    draining = sum(one.beat.draining for one in readings)
    busy = [one.busy for one in readings if one.busy is not None]
    accepted = sum(one.accepted_per_s or 0.0 for one in readings)
    judged = accepted + sum(one.rollbacks_per_s or 0.0 for one in readings)
    return StageUse(
        ready=sum(one.beat.ready and not one.beat.draining for one in readings),
        asked=len(readings) - draining if asked is None else asked,
        draining=draining,
        sessions=sum(one.beat.sessions for one in readings),
        busy=sum(busy) / len(busy) if busy else None,
        agreement=accepted / judged if judged else None,
    )
