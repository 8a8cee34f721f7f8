"""Whether enough is known of the fleet to decide anything: who is heard of, and since when everyone is.

An autoscaler that hears nothing must not take silence for idleness. It decides when the bus works, a gateway says what is
asked for, and a replica of every stage has been heard of for some heartbeats; a stage that has no replicas because it
is switched off, or is on its way back from that, is the one exception.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pipespec.protocol.ids import Rank
from pipespec.protocol.telemetry import GatewayReading, StageReading

MIN_BEATS = 3
"""Heartbeats apart that a replica's first and last one have to be."""


class Freshness:
    """Looks at readings. Keeps since when they are complete.

    Args:
        num_stages: of the chain.
        heartbeat_s: between two heartbeats of a replica.
    """

    def __init__(self, *, num_stages: int, heartbeat_s: float) -> None:
        self.num_stages = num_stages
        self._least_window_s = (MIN_BEATS - 0.5) * heartbeat_s
        self._switched_off: set[Rank] = set()
        self._since_s: float | None = None

    def lack(
        self,
        now_s: float,
        *,
        is_joined: bool,
        stages: Sequence[StageReading],
        gateways: Sequence[GatewayReading],
        replicas: Mapping[Rank, int],
    ) -> str:
        """What is missing, for people; empty where nothing is.

        Args:
            now_s: on the caller's clock.
            is_joined: whether the bus echoes.
            stages: readings of the replicas that live.
            gateways: readings of the gateways that live.
            replicas: that each stage should have as the cluster knows it, where that is known.
        """
        heard = {one.beat.rank for one in stages if one.window_s >= self._least_window_s}
        self._switched_off |= {rank for rank, number in replicas.items() if number == 0}
        self._switched_off -= heard
        missing = [rank for rank in range(self.num_stages) if rank not in heard | self._switched_off]
        what = []
        if not is_joined:
            what.append("the bus does not echo")
        if missing:
            what.append(f"no heartbeats of stage {', '.join(map(str, missing))}")
        if not any(one.window_s >= self._least_window_s for one in gateways):
            what.append("no heartbeats of a gateway")
        if what:
            self._since_s = None
        elif self._since_s is None:
            self._since_s = now_s
        return "; ".join(what)

    def lasts_s(self, now_s: float) -> float:
        """Seconds for which nothing has been missing; 0 where something is."""
        return 0.0 if self._since_s is None else now_s - self._since_s
