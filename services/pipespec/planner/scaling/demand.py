"""How many streams there would be if all were as fast as the goal asks: the demand that replicas are planned for.

Sessions are open for as long as they take: streams twice as fast, half as many of them, by Little's law. So the sessions of the
moment say little; sessions times goal over their time per token is the same at any speed, while what comes is served. It is
averaged over a minute, unless it jumps: what fluctuates faster costs a little speed, more replicas would come too late for it.

Beyond that, in a *surge*, sessions pile up, and their number grows for as long as the new replicas load, whatever the demand is.
A surge is answered by what is there in its first moments, and again if sessions still pile up when those replicas have been there for a while.
"""

from __future__ import annotations

from dataclasses import dataclass

from pipespec.planner.scaling.load import FleetLoad

_AVERAGED_S = 60.0
_CHANCE = 3.0
"""Standard deviations of a Poisson number; what is beyond is no chance and counts at once."""
_ANSWER_S = 30.0
"""From the beginning of a surge: time to see how large it is. From its replicas' coming: time to take in what has piled up."""
_SLOWER = 1.1
"""Than the goal: a surge. Right at the goal is where the cheapest fleet is."""
_RETRY_S = 1.0
"""A client that was refused asks again after so long: what gateways tell it. Requests that were refused are no clients."""


@dataclass(frozen=True, slots=True)
class Demand:
    """Now.

    Attributes:
        streams: at the goal's speed, on average.
        now: the same at this moment.
        is_jump: it has nothing to do with what was before.
        is_surge: sessions pile up.
        is_answered: replicas for this surge are under way, or it goes down; what has piled up is no reason for more.
    """

    streams: float
    now: float
    is_jump: bool
    is_surge: bool = False
    is_answered: bool = False


class DemandMeter:
    """Reads demand off snapshots."""

    def __init__(self) -> None:
        self._before_s: float | None = None
        self._average: float | None = None
        self._surge_s: float | None = None
        self._loading_s = 0.0
        self._pile = 0.0

    def read(self, load: FleetLoad, *, goal_ms: float) -> Demand:
        """Of the next snapshot.

        Args:
            load: the snapshot.
            goal_ms: per token, mean of all streams.
        """
        waited_s = load.now_s - self._before_s if self._before_s is not None else 0.0
        self._before_s = load.now_s
        if load.refused or (load.ms_per_token is not None and load.ms_per_token > _SLOWER * goal_ms):
            self._average = None
            return self._surge(load, waited_s)
        self._surge_s, self._pile = None, 0.0
        now = load.sessions * max(1.0, goal_ms / load.ms_per_token if load.ms_per_token else 1.0)
        is_jump = self._average is None or now > self._average + _CHANCE * max(1.0, self._average) ** 0.5
        if self._average is None or is_jump:
            self._average = now
        else:
            self._average += min(1.0, waited_s / _AVERAGED_S) * (now - self._average)
        return Demand(self._average, now, is_jump=is_jump)

    def _surge(self, load: FleetLoad, waited_s: float) -> Demand:
        asking = load.refused * min(1.0, _RETRY_S / waited_s) if waited_s else float(load.refused)
        streams = load.sessions + asking
        if any(stage.ready < stage.asked for stage in load.stages):
            self._loading_s = load.now_s
        is_settling = load.now_s - self._loading_s <= _ANSWER_S
        is_shrinking = streams < self._pile
        self._pile = streams
        if self._surge_s is None or not (is_settling or is_shrinking):
            self._surge_s = load.now_s
        is_answered = is_shrinking or load.now_s - self._surge_s > _ANSWER_S
        return Demand(streams, streams, is_jump=True, is_surge=True, is_answered=is_answered)
