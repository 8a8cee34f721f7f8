"""A replica of the gateway: all its sessions, the fleet, routes, and the state that it owes the stages.

Sans-I/O: takes envelopes, requests and the time; leaves messages in ``outbox`` and news for the clients in
``events``. One owner, no locks. Source: DESIGN section 3, rules 2, 3 and 6; RELIABILITY R5 to R7, R11 to R13.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from pipespec.ops.errors import Overloaded, Unavailable
from pipespec.protocol.fellows import Fellows
from pipespec.protocol.fleet import Fleet
from pipespec.protocol.gateway_session import Commit, GatewaySession
from pipespec.protocol.ids import Member, Position, Rank, SessionId, TokenId, Topic, stage_inbox
from pipespec.protocol.messages import (
    ChainIdentity,
    EndReason,
    Envelope,
    Finished,
    GatewayHeartbeat,
    Heartbeat,
    Outbox,
    Segment,
    SessionState,
    StageCounters,
    State,
    Sync,
)
from pipespec.protocol.peers import Peers
from pipespec.protocol.placement import prefix_keys
from pipespec.protocol.rules import Rules
from pipespec.protocol.sampling import Sampling
from pipespec.protocol.streams import Resume, Resumed
from pipespec.protocol.timers import Timers

MAX_STATE_ENTRIES = 256
"""Sessions in one ``state``; more go in further messages, so that none outgrows the bus's limit."""
MAX_SYNC_TAIL = 4096
"""Tokens that a ``sync`` is answered with at most; who lacks more gets the whole ``open``."""


@dataclass(frozen=True, slots=True)
class Committed:
    """Tokens are final: ``tokens[0]`` has position ``start``."""

    session: SessionId
    start: Position
    tokens: tuple[TokenId, ...]


@dataclass(frozen=True, slots=True)
class Ended:
    """The session takes no more tokens; ``route`` is the last one, whose stages now say their counters."""

    session: SessionId
    reason: EndReason
    route: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Counted:
    """A stage replica's last word on a session that it has left."""

    session: SessionId
    rank: Rank
    replica: Topic
    counters: StageCounters


@dataclass(frozen=True, slots=True)
class Skewed:
    """A replica was found that does not fit this chain and gets no work; told once each time it appears."""

    beat: Heartbeat


@dataclass(frozen=True, slots=True)
class FellowSaid:
    """Another gateway said something about a client's stream; not a matter of the core."""

    sender: Topic
    message: Resume | Resumed


Event = Committed | Ended | Counted | Skewed | FellowSaid


@dataclass(slots=True)
class Progress:
    """What all sessions brought since the start.

    Attributes:
        tokens: committed.
        followed: those of them that came after their session's first commit.
        followed_s: what sessions waited for these.
    """

    tokens: int = 0
    followed: int = 0
    followed_s: float = 0.0

    def on_commit(self, waited_s: float, *, start: Position, num_tokens: int) -> None:
        """Count a commit of a session that held ``start`` tokens and had waited for so long."""
        self.tokens += num_tokens
        if start > 0:
            self.followed += num_tokens
            self.followed_s += waited_s


class GatewayReplica:
    """All sessions of one gateway."""

    def __init__(self, fleet: Fleet, timers: Timers, rules: Rules | None = None) -> None:
        self.fleet = fleet
        self.fellows = Fellows(timers)
        self.outbox = Outbox()
        self.events: list[Event] = []
        self.sessions: dict[SessionId, GatewaySession] = {}
        self.counts: Counter[str] = Counter()
        self.progress = Progress()
        self._timers = timers
        self._rules = rules or Rules()
        self._peers = Peers(self._rules, dead_s=timers.dead_s)
        self._stated_s = float("-inf")
        self._served_s: dict[bytes, float] = {}

    # Clients

    def open(
        self,
        now: float,
        session_id: SessionId,
        *,
        prompt: tuple[TokenId, ...],
        sampling: Sampling,
        speculate: bool = True,
    ) -> GatewaySession:
        """Start a session on replicas that have room.

        Raises:
            Unavailable: no target replica is usable.
            Overloaded: those that are have no room.
        """
        if self.fleet.target(now) is None:
            raise Unavailable.no_target()
        prefix = prefix_keys(prompt)
        route = self.fleet.route(now, speculate=speculate, prefix=prefix)
        beat = self.fleet.beat_of((self.fleet.target_rank, route[-1])) if route else None
        if route is None or beat is None:
            raise Overloaded("every target replica holds as many sessions as it may; try again later")
        session = GatewaySession(
            session_id,
            now=now,
            prompt=prompt,
            sampling=sampling,
            identity=ChainIdentity(weights=beat.weights, tokenizer=beat.tokenizer),
            vocab_size=beat.vocab_size,
            route=route,
            speculate=speculate,
            rules=self._rules,
            prefix=prefix,
        )
        self.sessions[session_id] = session
        self.fleet.place(route, by=1, prefix=prefix)
        self._announce_open(session)
        return session

    def close(self, session_id: SessionId, reason: EndReason) -> None:
        """End a session on all stages; an unknown one is ignored."""
        session = self.sessions.pop(session_id, None)
        if session is None:
            return
        session.end = session.end or reason
        self.fleet.place(session.route, by=-1)
        for inbox in session.inboxes:
            self.outbox.send(inbox, session.close_message(session.end))
        self.events.append(Ended(session_id, session.end, session.route))

    def _announce_open(self, session: GatewaySession) -> None:
        for inbox in session.inboxes:
            self.outbox.send(inbox, session.open_message())

    # Stages

    def on_envelope(self, now: float, envelope: Envelope) -> None:
        """Apply one message. What does not fit is dropped and counted by reason, never an error."""
        if not self._peers.accept(now, envelope):
            self.counts["duplicate_or_former"] += 1
            return
        match envelope.message:
            case Segment() as message:
                self._on_segment(now, envelope.sender, message)
            case Sync() as message:
                self._on_sync(now, envelope.sender, message)
            case Heartbeat() as message:
                self._on_heartbeat(now, envelope.sender, message)
            case Finished() as message:
                self._on_finished(now, envelope.sender, message)
            case Resume() | Resumed() as message:
                self.events.append(FellowSaid(envelope.sender, message))
            case GatewayHeartbeat():
                self.fellows.on_heartbeat(now, envelope.sender)
            case _:
                self.counts["not_for_a_gateway"] += 1

    def _on_segment(self, now: float, sender: Topic, segment: Segment) -> None:
        session = self.sessions.get(segment.session)
        if session is None:
            self.counts["unknown_session"] += 1
            return
        if self._rules.fence_epochs and (segment.epoch != session.epoch or sender != session.target_inbox):
            self.counts["old_epoch"] += 1
            return
        if max(segment.tokens, default=0) >= session.vocab_size:
            self.counts["token_out_of_range"] += 1
            return
        start = session.committed
        commit = session.on_segment(now, segment)
        self.counts[commit.name.lower()] += 1
        if commit is Commit.EXTENDED:
            tokens = session.tokens(start, session.committed)
            self.progress.on_commit(now - session.committed_s, start=start, num_tokens=len(tokens))
            session.committed_s = self._served_s[session.identity.weights] = now
            self.events.append(Committed(segment.session, start, tokens))
            if session.end is not None:
                self.close(segment.session, session.end)
                return
            self._send_state(session.inboxes, session.state_entry(since=max(0, start - 1)))
        elif commit is Commit.FORKED:
            self._send_state([sender], session.state_entry())

    def _send_state(self, inboxes: list[Topic], entry: SessionState) -> None:
        for inbox in inboxes:
            self.outbox.send(inbox, State(entries=(entry,)))

    def _on_sync(self, now: float, sender: Topic, message: Sync) -> None:
        session = self.sessions.get(message.session)
        if session is None or sender not in session.inboxes:
            return  # no state will name it: its lease runs out
        if not session.may_sync(now, sender, every_s=self._timers.sync_s):
            self.counts["sync_too_soon"] += 1
            return
        behind = session.committed - message.position
        agrees = message.epoch == session.epoch and session.agrees(message.position, message.digest)
        if agrees and behind <= MAX_SYNC_TAIL:
            self._send_state([sender], session.state_entry(since=message.position))
        else:
            self.outbox.send(sender, session.open_message())

    def _on_heartbeat(self, now: float, sender: Topic, beat: Heartbeat) -> None:
        is_known = (beat.rank, beat.replica) in self.fleet.incompatible
        if not self.fleet.on_heartbeat(now, beat, sender):
            self.counts["incompatible_replica"] += 1
            if not is_known:
                self.events.append(Skewed(beat))

    def _on_finished(self, now: float, sender: Topic, message: Finished) -> None:
        self.events.append(Counted(message.session, message.rank, sender, message.counters))
        session = self.sessions.get(message.session)
        if session is None or message.epoch != session.epoch or sender not in session.inboxes:
            return
        if message.rank >= len(session.route) or sender != stage_inbox(
            message.rank, session.route[message.rank]
        ):
            self.counts["forged_rank"] += 1
            return
        member = (message.rank, session.route[message.rank])
        if message.reason is EndReason.REFUSED:
            self.counts["refused"] += 1
            if not self.fleet.fits(now, member, session.identity.weights):
                return  # a process that does not belong there took its name: nothing goes there, the right one may come back
            session.avoid(member, until=float("inf"))
            if not self._reroute(now, session) and message.rank == self.fleet.target_rank:
                self.close(message.session, EndReason.REFUSED)
        elif message.reason in (EndReason.FULL, EndReason.EXPIRED):
            # A target without an alternative is asked again by every state: it opens the session when it has room, and
            # when it hears. Whose lease ran out while this gateway spoke of the session is deaf to it.
            self.counts[message.reason.value] += 1
            session.avoid(member, until=now + self._timers.dead_s)
            self._reroute(now, session)

    # Time

    def on_timer(self, now: float) -> None:
        """State for everyone once per heartbeat; other routes for sessions whose replicas died or stalled."""
        if now - self._stated_s < self._timers.heartbeat_s:
            return
        slept_s, self._stated_s = now - self._stated_s, now
        self._give_up_the_lost(now, was_asleep=slept_s > self._timers.dead_s)
        for session in list(self.sessions.values()):
            self._look_after(now, session)
        if self._rules.announce_states:
            self._announce_states()

    def _give_up_the_lost(self, now: float, *, was_asleep: bool) -> None:
        """End sessions for whose weights no target was usable for long; by weights, since another model may serve.

        What was not heard while this process did not run says nothing. A commit is a sign of life as well: of a process that
        has just taken a name it may be the first one that is believed.
        """
        wanted = {session.identity.weights for session in self.sessions.values()}
        self._served_s = {
            weights: now
            if was_asleep or self.fleet.target(now, weights=weights) is not None
            else self._served_s.get(weights, now)
            for weights in wanted
        }
        for session in list(self.sessions.values()):
            if now - self._served_s[session.identity.weights] > self._timers.lost_s:
                self.close(session.session, EndReason.LOST)

    def _look_after(self, now: float, session: GatewaySession) -> None:
        """Reroute when a member is gone, when the target stalls, or when a hole in the route can be filled."""
        target = (self.fleet.target_rank, session.route[-1])
        if self._rules.suspect_stalled and now - session.progress_s > self._patience_s(session):
            session.suspect(target)
            if not self._reroute(now, session, without=target):
                session.progress_s = now  # no other target: wait for this one, ask again later
        elif now - session.rerouted_s > self._timers.dead_s:
            self._reroute(now, session)

    def _patience_s(self, session: GatewaySession) -> float:
        """Without a commit for longer than this the target is suspected.

        Covers what a new target has to read first, and doubles with every suspicion: two busy targets that need longer
        than expected must not pass a session back and forth for ever.
        """
        reading_s = session.num_tokens * self._timers.prefill_s_per_token
        return (self._timers.stall_s + reading_s) * (1 << min(session.num_stalls, 10))

    def _other_route(
        self, now: float, session: GatewaySession, *, without: set[Member]
    ) -> tuple[str, ...] | None:
        return self.fleet.route(
            now,
            speculate=session.speculate,
            without=session.avoided(now) | without,
            identity=session.identity,
            keep=session.route,
            prefix=session.prefix,
        )

    def _reroute(self, now: float, session: GatewaySession, *, without: Member | None = None) -> bool:
        """Go over to another route where there is one; to a suspected target only when there is no other."""
        unwanted = {without} if without else set()
        route = self._other_route(now, session, without=unwanted | session.suspects)
        if route is None:
            session.suspects = unwanted  # all were tried: begin again
            route = self._other_route(now, session, without=unwanted)
        if route is None or route == session.route:
            return False
        self.counts["reroutes"] += 1
        closing = session.close_message(EndReason.LOST)
        for rank, (old, new) in enumerate(zip(session.route, route, strict=True)):
            if old and old != new:
                self.outbox.send(stage_inbox(Rank(rank), old), closing)
        self.fleet.place(session.route, by=-1)
        self.fleet.place(route, by=1, prefix=session.prefix)
        session.reroute(now, route)
        self._announce_open(session)
        return True

    def _announce_states(self) -> None:
        entries: defaultdict[Topic, list[SessionState]] = defaultdict(list)
        for session in self.sessions.values():
            entry = session.state_entry()
            for inbox in session.inboxes:
                entries[inbox].append(entry)
        for inbox, all_entries in entries.items():
            for start in range(0, len(all_entries), MAX_STATE_ENTRIES):
                chunk: Sequence[SessionState] = all_entries[start : start + MAX_STATE_ENTRIES]
                self.outbox.send(inbox, State(entries=tuple(chunk)))
