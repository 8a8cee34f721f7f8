"""The fleet as heartbeats tell it: which replicas live, what they can serve, and the route for a session.

Sans-I/O. A replica counts while its last heartbeat is younger than ``dead_s`` and its loop has turned within
``hung_s``. A route needs a target; every other stage is optional, because a pipeline without drafts is slower, never
stuck (DESIGN section 3, rule 4). The first usable target pins the weights: new sessions go to no others while one of these
is usable. A session that began with other weights keeps to them to its end.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Collection
from dataclasses import dataclass

from pipespec.protocol.ids import Member, Rank, Topic, stage_inbox
from pipespec.protocol.messages import ChainIdentity, Heartbeat
from pipespec.protocol.placement import Placement, PrefixAffinity, PrefixKeys
from pipespec.protocol.rules import Rules
from pipespec.protocol.timers import Timers

_FORGET_S = 600.0
"""A replica that was not heard of for so long is forgotten; names come and go for ever."""


_RECENT_BEATS = 8
"""A replica hears of a session's end after its step, and says so with its next heartbeat: until then it counts it."""


@dataclass(slots=True)
class _Heard:
    beat: Heartbeat
    at_s: float
    turned_s: float
    placed: deque[int]
    """Sessions that this gateway had placed there at the last heartbeats."""

    @property
    def others(self) -> int:
        """Sessions that other gateways have placed there."""
        return max(0, self.beat.sessions - max(self.placed))


class Fleet:
    """Replicas of all stages of one chain, as one gateway sees them.

    Attributes:
        weights: digest of the target's, empty before one was heard of; so are the next two 0.
        vocab_size: the target's; ids are below it.
        context_len: the target's, in tokens.
        incompatible: replicas that do not fit this chain, with their last heartbeat.
    """

    def __init__(
        self,
        *,
        num_stages: int,
        tokenizer: bytes,
        timers: Timers,
        placement: Placement | None = None,
        rules: Rules | None = None,
    ) -> None:
        self.num_stages = num_stages
        self.tokenizer = tokenizer
        self.weights = b""
        self.vocab_size = 0
        self.context_len = 0
        self.incompatible: dict[Member, Heartbeat] = {}
        self._timers = timers
        self._rules = rules or Rules()
        self._placement = placement or PrefixAffinity()
        self._heard: dict[Member, _Heard] = {}
        self._placed: Counter[Member] = Counter()
        self._endings: frozenset[Member] = frozenset()
        self._forgot_s = 0.0

    @property
    def target_rank(self) -> Rank:
        """The last stage."""
        return Rank(self.num_stages - 1)

    def on_heartbeat(self, now: float, beat: Heartbeat, sender: Topic) -> bool:
        """Note a heartbeat; False when the replica is not one of this chain (and gets no new sessions)."""
        member = (beat.rank, beat.replica)
        self._forget(now)
        if not (self._belongs(beat, sender) and self._reads_alike(beat)):
            self.incompatible[member] = beat
            self._heard.pop(member, None)
            return False
        is_first = beat.rank == self.target_rank and self.target(now) is None
        before = self._heard.get(member)
        turned_s = before.turned_s if before and before.beat.turn == beat.turn else now
        placed = before.placed if before else deque(maxlen=_RECENT_BEATS)
        placed.append(self._placed[member])
        self._heard[member] = _Heard(beat, now, turned_s, placed)
        if is_first and self.is_usable(now, member):
            self.weights = beat.weights
            self.vocab_size, self.context_len = beat.vocab_size, beat.context_len
        if self._is_foreign(beat):
            self.incompatible[member] = beat
            return False
        self.incompatible.pop(member, None)
        return True

    def on_endings(self, endings: frozenset[Member]) -> None:
        """Members of which the cluster says that they are going away or gone; a newer word replaces an older one."""
        self._endings = endings

    def _belongs(self, beat: Heartbeat, sender: Topic) -> bool:
        is_of_this_chain = beat.num_stages == self.num_stages and beat.rank < self.num_stages
        # A target that does not say what it is cannot be named in an `open`, nor can its words be checked.
        is_named = beat.rank != self.target_rank or bool(
            beat.weights and beat.vocab_size and beat.context_len
        )
        return is_of_this_chain and is_named and sender == stage_inbox(beat.rank, beat.replica)

    def _reads_alike(self, beat: Heartbeat) -> bool:
        """Whether its token ids mean what they mean to this chain."""
        any_will_do = beat.rank != self.target_rank and not beat.tokenizer
        return any_will_do or beat.tokenizer == self.tokenizer or not self._rules.check_identity

    def _is_foreign(self, beat: Heartbeat) -> bool:
        """Whether it is a target of other weights than those that new sessions get."""
        is_target = beat.rank == self.target_rank
        return is_target and beat.weights != self.weights and self._rules.check_identity

    def _forget(self, now: float) -> None:
        if now - self._forgot_s < _FORGET_S:
            return
        self._forgot_s = now
        self._heard = {m: heard for m, heard in self._heard.items() if now - heard.at_s < _FORGET_S}
        self.incompatible.clear()  # who still beats comes again at once

    def living(self, now: float) -> list[Heartbeat]:
        """Heartbeats of replicas that count now, by rank and name."""
        heard = tuple(self._heard.values())
        alive = [
            h.beat for h in heard if now - h.at_s <= self._timers.dead_s and not self._is_foreign(h.beat)
        ]
        return sorted(alive, key=lambda beat: (beat.rank, beat.replica))

    def beat_of(self, member: Member) -> Heartbeat | None:
        """The last heartbeat of a member, however old."""
        heard = self._heard.get(member)
        return heard.beat if heard else None

    def is_usable(self, now: float, member: Member) -> bool:
        """Whether the member lives, turns, is ready and does not end."""
        heard, rules = self._heard.get(member), self._rules
        return (
            heard is not None
            and (now - heard.at_s <= self._timers.dead_s or not rules.suspect_silent)
            and (now - heard.turned_s <= self._timers.hung_s or not rules.watch_turns)
            and heard.beat.ready
            and not heard.beat.draining
            and member not in self._endings
        )

    def target(self, now: float, *, weights: bytes | None = None) -> Heartbeat | None:
        """A usable target replica, with or without room for more sessions; None where there is none.

        Args:
            now: seconds.
            weights: that it must have; those of new sessions when None.
        """
        wanted = self.weights if weights is None else weights
        usable = [m for m in self._heard if m[0] == self.target_rank and self.fits(now, m, wanted)]
        return self.beat_of(min(usable)) if usable else None

    def room(self, now: float) -> int:
        """New sessions that all usable target replicas together still take."""
        usable = (m for m in self._heard if m[0] == self.target_rank and self.fits(now, m, self.weights))
        return sum(max(0, self._heard[m].beat.max_sessions - self._load(m)) for m in usable)

    def route(
        self,
        now: float,
        *,
        speculate: bool,
        without: Collection[Member] = (),
        identity: ChainIdentity | None = None,
        keep: tuple[str, ...] | None = None,
        prefix: PrefixKeys = (),
    ) -> tuple[str, ...] | None:
        """Replica names by rank, of each stage one that has room, as ``placement`` chooses; None while no target is usable or has room.

        Args:
            now: seconds.
            speculate: False leaves all stages but the target out.
            without: members that must not be in it.
            identity: of a session that has begun; what new ones get when None.
            keep: the present route; its members stay where they are usable.
            prefix: of the session's prompt.
        """
        avoid = frozenset(without)
        weights = identity.weights if identity else self.weights
        route = [""] * self.num_stages
        for rank in range(self.num_stages):
            if rank != self.target_rank and not speculate:
                continue
            member = (Rank(rank), keep[rank]) if keep else None
            if member and member not in avoid and self.fits(now, member, weights):
                route[rank] = member[1]
            else:
                route[rank] = self._pick(now, Rank(rank), avoid, weights, prefix)
        return tuple(route) if route[-1] else None

    def _pick(
        self,
        now: float,
        rank: Rank,
        avoid: Collection[Member],
        weights: bytes,
        prefix: PrefixKeys,
    ) -> str:
        loads = {
            member: self._load(member)
            for member in self._heard
            if member[0] == rank
            and member not in avoid
            and self.fits(now, member, weights)
            and self._has_room(member)
        }
        return self._placement.choose(loads, prefix)[1] if loads else ""

    def fits(self, now: float, member: Member, weights: bytes) -> bool:
        """Whether it is usable for a session whose target has these weights."""
        if not self.is_usable(now, member):
            return False
        is_draft = member[0] != self.target_rank
        return is_draft or self._heard[member].beat.weights == weights or not self._rules.check_identity

    def _load(self, member: Member) -> int:
        """Sessions: those that this gateway has placed, and what others have, by the replica's word."""
        return self._placed[member] + self._heard[member].others

    def _has_room(self, member: Member) -> bool:
        return self._load(member) < self._heard[member].beat.max_sessions

    def place(self, route: tuple[str, ...], *, by: int, prefix: PrefixKeys = ()) -> None:
        """Count a session in (``by`` 1) or out (-1) of every replica of its route, which read its prompt."""
        for rank, name in enumerate(route):
            if name:
                member = (Rank(rank), name)
                self._placed[member] += by
                if self._placed[member] == 0:
                    del self._placed[member]
                if by > 0:
                    self._placement.placed(member, prefix)
