"""The autoscaler's loop: hears the fleet, has a decision made every interval, wishes for the replicas.

Followers do the same as the leader, but for the writing: their wishes are not carried out, and when one of them is to lead it
has the same history. Where anything is missing in what it hears, the loop wishes for nothing; it decides again after a
whole interval in which nothing was.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import Protocol

import structlog

from pipespec.autoscaler.fleet_load import fleet_load
from pipespec.autoscaler.freshness import Freshness
from pipespec.autoscaler.thinking import Thinking
from pipespec.ops.cluster import AutoscalerSettings
from pipespec.planner.scaling.decision import Decision
from pipespec.planner.scaling.load import FleetLoad
from pipespec.protocol.ids import Rank
from pipespec.protocol.messages import Envelope
from pipespec.protocol.telemetry import Telemetry

log = structlog.get_logger(__name__)


class Cluster(Protocol):
    """Where replicas are asked for. ``pipespec.autoscaler.cluster`` has one, which needs the extra 'cluster'."""

    @property
    def replicas(self) -> Mapping[Rank, int]:
        """That every stage should have, where the cluster has said so."""

    def request(self, wish: Mapping[Rank, int]) -> None:
        """Have these replicas from now on, while this process leads; a wish of nothing changes nothing any more."""

    @property
    def is_leading(self) -> bool:
        """Whether this process may write."""

    @property
    def is_running(self) -> bool:
        """Whether its threads go on."""

    @property
    def failures(self) -> Mapping[str, Mapping[str, int]]:
        """Calls that failed, by what they were for, and code."""


class AutoscalerLoop:
    """Hears, decides, wishes. Turned by one thread; times are seconds of its monotonic clock.

    Args:
        scaled: ranks of the stages that may be scaled.
        settings: of the autoscaler.
        now_s: when it begins.
        telemetry: over the time between two decisions.
        freshness: of that telemetry.
        thinking: about the decisions.
        cluster: None where there is none, and nothing can be changed.

    Attributes:
        load: that the last decision is about.
        decision: the last one.
        lack: what is missing to decide; empty where nothing is.
        heard_s: when a replica of each stage was last heard of.
        counts: decisions by outcome.
        turned_s: when it last turned.
    """

    def __init__(
        self,
        scaled: Sequence[Rank],
        settings: AutoscalerSettings,
        *,
        now_s: float,
        telemetry: Telemetry,
        freshness: Freshness,
        thinking: Thinking,
        cluster: Cluster | None,
    ) -> None:
        self.load: FleetLoad | None = None
        self.decision: Decision | None = None
        self.lack = "it has just started"
        self.heard_s: dict[Rank, float] = {}
        self.counts: Counter[str] = Counter()
        self.turned_s = now_s
        self._scaled = scaled
        self._settings = settings
        self._telemetry = telemetry
        self._freshness = freshness
        self._thinking = thinking
        self._cluster = cluster
        self._decided_s = float("-inf")
        self._said: tuple[int, ...] = ()
        self._deaf_s = now_s
        self._told = ""

    def turn(self, now_s: float, envelopes: Iterable[Envelope], *, is_joined: bool) -> None:
        """One round.

        Args:
            now_s: when the envelopes came.
            envelopes: from the bus; what is no heartbeat is ignored.
            is_joined: whether the bus echoes.
        """
        for envelope in envelopes:
            self._telemetry.on_envelope(now_s, envelope)
        self._look(now_s, is_joined=is_joined)
        if (outcome := self._thinking.outcome()) is not None:
            self._conclude(*outcome)
        self.turned_s = now_s

    def _look(self, now_s: float, *, is_joined: bool) -> None:
        num_stages, gateways = self._freshness.num_stages, self._telemetry.gateways(now_s)
        stages = [one for one in self._telemetry.stages(now_s) if one.beat.num_stages == num_stages]
        for one in stages:
            self.heard_s[one.beat.rank] = max(self.heard_s.get(one.beat.rank, 0.0), now_s - one.age_s)
        replicas = {} if self._cluster is None else self._cluster.replicas
        heard = self._freshness.lack(
            now_s, is_joined=is_joined, stages=stages, gateways=gateways, replicas=replicas
        )
        self._note(now_s, heard or self._unsaid(replicas))
        if self.lack:
            self._wish({})
            return
        interval_s = self._settings.interval_s
        since_s = min(self._freshness.lasts_s(now_s), now_s - self._decided_s)
        if since_s < interval_s or self._thinking.is_busy:
            return
        self._decided_s = now_s
        self._thinking.begin(
            fleet_load(now_s, num_stages=num_stages, stages=stages, gateways=gateways, replicas=replicas)
        )

    def _unsaid(self, replicas: Mapping[Rank, int]) -> str:
        unknown = [rank for rank in self._scaled if self._cluster is not None and rank not in replicas]
        return (
            f"the cluster has not said the replicas of stage {', '.join(map(str, unknown))}"
            if unknown
            else ""
        )

    def _note(self, now_s: float, lack: str) -> None:
        if lack and not self.lack:
            self._deaf_s = now_s - self._settings.interval_s  # that is news, said at once
        if not lack and self.lack:
            log.info("autoscaler.hears", decides_in_s=self._settings.interval_s)
            self._told = ""
        elif lack != self._told and now_s - self._deaf_s >= self._settings.interval_s:
            log.warning("autoscaler.deaf", lack=lack, effect="nothing is changed")
            self._told = lack
        self.lack = lack

    def _conclude(self, load: FleetLoad, decision: Decision) -> None:
        self.load, self.decision = load, decision
        if self.lack:  # since it was begun
            return
        self._wish({rank: decision.replicas[rank] for rank in self._scaled})
        asked = tuple(stage.asked for stage in load.stages)
        self.counts[_outcome(asked, decision.replicas)] += 1
        leads = self._cluster is not None and self._cluster.is_leading
        acts = self._settings.dry_run or leads
        is_news = acts and decision.is_change(asked) and decision.replicas != self._said
        self._said = decision.replicas if acts else ()
        (log.info if is_news else log.debug)(
            "autoscaler.decided",
            asked=asked,
            dry_run=self._settings.dry_run,
            leads=leads,
            measured_ms_per_token=load.ms_per_token,
            **asdict(decision),
        )

    def _wish(self, wish: Mapping[Rank, int]) -> None:
        if self._cluster is not None and not self._settings.dry_run:
            self._cluster.request(wish)


def _outcome(asked: Sequence[int], wanted: Sequence[int]) -> str:
    """``more``, ``fewer``, ``other`` (of some stages more and of others fewer) or ``same``."""
    is_more = any(after > before for before, after in zip(asked, wanted, strict=True))
    is_fewer = any(after < before for before, after in zip(asked, wanted, strict=True))
    if is_more:
        return "other" if is_fewer else "more"
    return "fewer" if is_fewer else "same"
