"""A replica of a stage: all its sessions, its leases, and what it says when nobody asks.

Sans-I/O: takes envelopes, results and the time; leaves messages in ``outbox`` and engine orders in ``orders``.
One owner, no locks. Source: DESIGN section 3, rules 3 to 5.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from dataclasses import dataclass

from pipespec.protocol.claims import Merge
from pipespec.protocol.ids import (
    DIGEST_LEN,
    Digest,
    Epoch,
    Position,
    SessionId,
    Topic,
)
from pipespec.protocol.messages import (
    MAX_WATCH_MS,
    Close,
    EndReason,
    Envelope,
    Finished,
    Open,
    Outbox,
    Segment,
    SessionState,
    StageCounters,
    State,
    Stepped,
    StepShare,
    Sync,
    Watch,
)
from pipespec.protocol.pace import FreeRunning, Pace
from pipespec.protocol.peers import Peers
from pipespec.protocol.place import Place
from pipespec.protocol.rules import Rules
from pipespec.protocol.stage_session import StageLimits, StageSession
from pipespec.protocol.timers import Timers
from pipespec.protocol.work import Outcome, Work

_PREFILL_SHARE = 4
_MAX_WATCHERS = 4
_MAX_SHARES = 1024
"""Sessions of a step that observers hear of; more would not fit a message."""
_NO_DIGEST = Digest(bytes(DIGEST_LEN))


@dataclass(frozen=True, slots=True)
class OpenCache:
    """Order to the engine: make room for a session."""

    message: Open


@dataclass(frozen=True, slots=True)
class FreeCache:
    """Order to the engine: free a session."""

    session: SessionId


class StageReplica:
    """All sessions of one replica."""

    def __init__(
        self,
        place: Place,
        limits: StageLimits,
        timers: Timers,
        rules: Rules | None = None,
        *,
        pace: Pace | None = None,
    ) -> None:
        self.place = place
        self.outbox = Outbox()
        self.orders: list[OpenCache | FreeCache] = []
        self.sessions: dict[SessionId, StageSession] = {}
        self.counters = StageCounters()
        self.dropped: Counter[str] = Counter()
        self._limits = limits
        self._timers = timers
        self._rules = rules or Rules()
        self._pace = pace or FreeRunning()
        self._peers = Peers(self._rules, dead_s=timers.dead_s)
        self._tombstones: OrderedDict[SessionId, tuple[Epoch, float]] = OrderedDict()
        self._watchers: dict[Topic, float] = {}
        self._shares: list[StepShare] = []
        self._asked: dict[SessionId, float] = {}

    # Receiving

    def on_envelope(self, now: float, envelope: Envelope) -> None:
        """Apply one message. What does not fit is dropped and counted by reason, never an error."""
        if not self._peers.accept(now, envelope):
            self.dropped["duplicate_or_former"] += 1
            return
        match envelope.message:
            case Open() as message:
                self._on_open(now, envelope.sender, message)
            case State() as message:
                for entry in message.entries:
                    self._on_state(now, envelope.sender, entry)
            case Segment() as message:
                self._on_segment(now, envelope.sender, message)
            case Close() as message:
                self._on_close(now, message)
            case Watch(lease_ms=lease_ms):
                self._on_watch(now, envelope.sender, min(lease_ms, MAX_WATCH_MS))
            case _:
                self.dropped["not_for_a_stage"] += 1

    def _on_watch(self, now: float, observer: Topic, lease_ms: int) -> None:
        if observer in self._watchers or len(self._watchers) < _MAX_WATCHERS:
            self._watchers[observer] = now + lease_ms / 1000

    def _on_open(self, now: float, gateway: Topic, message: Open) -> None:
        place = self.place
        if self._is_buried(message.session, message.epoch):
            self.dropped["closed_session"] += 1
            return
        session = self.sessions.get(message.session)
        if session is not None and message.epoch < session.epoch:
            self.dropped["old_epoch"] += 1
            return
        serves = place.serves(message) or not self._rules.check_identity
        if not serves or message.route[place.rank] != place.replica:
            self._refuse(gateway, message, EndReason.REFUSED)
            return
        if session is not None and not session.began_as(message):
            self.dropped["misread_open"] += 1
            self._free(session)
            session = None
        if session is None:
            if len(self.sessions) >= place.max_sessions:
                self._refuse(gateway, message, EndReason.FULL)
                return
            session = StageSession(
                message, rank=place.rank, gateway=gateway, limits=self._limits, rules=self._rules
            )
            self.sessions[message.session] = session
            self.orders.append(OpenCache(message))
        elif message.epoch > session.epoch:
            session.reroute(message)
        session.on_open(message)
        session.gateway, session.heard_s = gateway, now
        self._asked.pop(message.session, None)

    def _refuse(self, gateway: Topic, message: Open, reason: EndReason) -> None:
        self.dropped[f"{reason.value}_session"] += 1
        reply = Finished(
            session=message.session,
            epoch=message.epoch,
            rank=self.place.rank,
            reason=reason,
            counters=StageCounters(),
        )
        self.outbox.send(gateway, reply)

    def _on_state(self, now: float, gateway: Topic, entry: SessionState) -> None:
        session = self.sessions.get(entry.session)
        if session is None:
            if not self._is_buried(entry.session, entry.epoch):
                self._sync(now, gateway, entry.session)
            return
        if self._rules.fence_epochs and entry.epoch < session.epoch:
            self.dropped["old_epoch"] += 1
            return
        session.heard_s = now
        if not self.place.reads(entry.tail):
            self._drop(session, EndReason.REFUSED)
            return
        if entry.epoch > session.epoch or session.on_state(entry) is not Merge.APPLIED:
            self._sync(now, gateway, entry.session)

    def _on_segment(self, now: float, sender: Topic, segment: Segment) -> None:
        session = self.sessions.get(segment.session)
        rank = session.rank_of(sender) if session is not None else None
        if session is None or rank is None or rank == self.place.rank:
            self.dropped["unknown_session"] += 1
            return
        if self._rules.fence_epochs and segment.epoch != session.epoch:
            self.dropped["old_epoch"] += 1
            return
        if not self.place.reads(segment.tokens):
            self.dropped["token_out_of_range"] += 1
            if rank > self.place.rank:
                self._drop(session, EndReason.REFUSED)
            return
        merged = session.on_segment(rank, segment)
        if merged is not Merge.APPLIED:
            self.dropped[merged.name.lower()] += 1
        # A base is a committed position: whoever lacks it, or holds something else there, is behind the gateway.
        if merged in (Merge.GAP, Merge.DIVERGED) and segment.base > session.claims.committed:
            self._sync(now, session.gateway, segment.session)

    def _sync(self, now: float, gateway: Topic, session_id: SessionId) -> None:
        if not self._rules.sync:
            return
        session = self.sessions.get(session_id)
        asked = session.synced_s if session else self._asked.get(session_id, float("-inf"))
        if self._rules.pace_syncs and now - asked < self._timers.sync_s:
            return
        if session is None:
            self._asked[session_id] = now
            unknown = Sync(session=session_id, epoch=Epoch(0), position=Position(0), digest=_NO_DIGEST)
            self.outbox.send(gateway, unknown)
            return
        session.synced_s = now
        position = session.claims.committed
        digest = session.claims.log.digest_at(position)
        self.outbox.send(gateway, Sync(session_id, session.epoch, position, digest))

    def _on_close(self, now: float, message: Close) -> None:
        session = self.sessions.get(message.session)
        if session is not None and message.epoch >= session.epoch:
            self._drop(session, message.reason)
        if not self._is_buried(message.session, message.epoch):
            self._tombstones.pop(message.session, None)
            self._tombstones[message.session] = (message.epoch, now)

    def _is_buried(self, session: SessionId, epoch: Epoch) -> bool:
        buried = self._tombstones.get(session)
        return self._rules.bury_closed and buried is not None and epoch <= buried[0]

    def _free(self, session: StageSession) -> None:
        del self.sessions[session.session]
        self.counters = self.counters.plus(session.counters)
        self.orders.append(FreeCache(session.session))

    def _drop(self, session: StageSession, reason: EndReason) -> None:
        self._free(session)
        reply = Finished(
            session=session.session,
            epoch=session.epoch,
            rank=self.place.rank,
            reason=reason,
            counters=session.counters,
        )
        self.outbox.send(session.gateway, reply)

    # Working

    def work(self, now: float, *, max_batch: int, max_tokens: int) -> list[Work]:
        """Shares of the next step, those that waited longest first.

        Sessions that generate come before those that still read their prompt; these get what is left of the tokens, but
        never less than ``1 / _PREFILL_SHARE`` of them, so that nobody waits for ever.
        """
        batch: list[Work] = []
        left = max_tokens
        waiting = sorted(self.sessions.values(), key=lambda s: s.worked_s)
        for reading in (False, True):
            reserve = 0 if reading or not any(s.is_reading for s in waiting) else max_tokens // _PREFILL_SHARE
            for session in waiting:
                if session.is_reading is not reading or len(batch) == max_batch or left <= reserve:
                    continue
                if not (reading or self._pace.may_step(now, session)):
                    continue
                work = session.work(max_tokens=left - reserve)
                if work is not None:
                    session.worked_s = now
                    left -= len(work.tokens)
                    batch.append(work)
        return batch

    def on_outcome(self, now: float, work: Work, outcome: Outcome, *, busy_us: int) -> None:
        """Apply one result and publish. A result for a session that is gone is dropped."""
        session = self.sessions.get(work.session)
        if session is None:
            return
        session.answered_s = now
        has_news = session.on_outcome(work, outcome, busy_us=busy_us)
        if self._watchers and session.last_share is not None:
            self._shares.append(session.last_share)
        if has_news:
            self._publish(now, session)

    def on_step(self, now: float, *, began_us: int, took_us: int) -> None:
        """Tell the observers of a step whose outcomes were applied.

        Args:
            now: seconds.
            began_us: microseconds since 1970, for timelines that span machines.
            took_us: microseconds.
        """
        shares, self._shares = self._shares[:_MAX_SHARES], []
        self._watchers = {topic: until for topic, until in self._watchers.items() if until > now}
        if not shares:
            return
        place = self.place
        message = Stepped(place.rank, place.replica, began_us=began_us, took_us=took_us, shares=tuple(shares))
        for topic in self._watchers:
            self.outbox.send(topic, message)

    def _publish(self, now: float, session: StageSession) -> None:
        session.said_s = now
        for topic, segment in session.segments():
            self.outbox.send(topic, segment)

    # Time

    def on_timer(self, now: float) -> None:
        """Repeat what a quiet session last said; free what no state has named for the lease time."""
        for session in list(self.sessions.values()):
            if self._rules.lease and now - session.heard_s > self._timers.lease_s:
                self._drop(session, EndReason.EXPIRED)
            elif self._rules.repeat_windows and now - session.said_s >= self._timers.heartbeat_s:
                self._publish(now, session)
        while self._tombstones:
            oldest = next(iter(self._tombstones.values()))
            if now - oldest[1] <= self._timers.lease_s:
                break
            self._tombstones.popitem(last=False)
        expired = [s for s, asked in self._asked.items() if now - asked > self._timers.lease_s]
        for session_id in expired:
            del self._asked[session_id]

    @property
    def num_remembered(self) -> int:
        """Sessions that are closed, or asked for and not yet opened; both are forgotten after the lease time."""
        return len(self._tombstones) + len(self._asked)

    def totals(self) -> StageCounters:
        """Counters of all sessions since the start, the open ones included."""
        total = self.counters
        for session in self.sessions.values():
            total = total.plus(session.counters)
        return total
