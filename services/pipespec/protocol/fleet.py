"""The fleet as heartbeats tell it: which replicas live, what they can serve, and the route for a session.

Sans-I/O. A replica counts while its last heartbeat is younger than ``dead_s`` and its loop has turned within
``hung_s``. A route needs a target; every other stage is optional, because a pipeline without drafts is slower, never
stuck (DESIGN section 3, rule 4). The first usable target pins the weights; others are incompatible while it lasts.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass

from pipespec.protocol.ids import Member, Rank, Topic, stage_inbox
from pipespec.protocol.messages import ChainIdentity, Heartbeat
from pipespec.protocol.placement import Placement, PrefixAffinity, PrefixKeys
from pipespec.protocol.timers import Timers

_FORGET_S = 600.0
"""A replica that was not heard of for so long is forgotten; names come and go for ever."""


@dataclass(slots=True)
class _Heard:
    beat: Heartbeat
    at_s: float
    turned_s: float


class Fleet:
    """Replicas of all stages of one chain, as one gateway sees them.

    Attributes:
        weights: digest of the target's, empty before one was heard of; so are the next two 0.
        vocab_size: the target's; ids are below it.
        context_len: the target's, in tokens.
        incompatible: replicas that do not fit this chain, with their last heartbeat.
    """

    def __init__(
        self, *, num_stages: int, tokenizer: bytes, timers: Timers, placement: Placement | None = None
    ) -> None:
        self.num_stages = num_stages
        self.tokenizer = tokenizer
        self.weights = b""
        self.vocab_size = 0
        self.context_len = 0
        self.incompatible: dict[Member, Heartbeat] = {}
        self._timers = timers
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
        """Note a heartbeat; False when the replica is not one of this chain (and never gets work)."""
        member = (beat.rank, beat.replica)
        self._forget(now)
        belongs = self._belongs(beat, sender)
        if belongs and beat.rank == self.target_rank and self.target(now) is None:
            self.weights = beat.weights
            self.vocab_size, self.context_len = beat.vocab_size, beat.context_len
        if not (belongs and self._is_compatible(beat)):
            self.incompatible[member] = beat
            self._heard.pop(member, None)
            return False
        self.incompatible.pop(member, None)
        before = self._heard.get(member)
        turned_s = before.turned_s if before and before.beat.turn == beat.turn else now
        self._heard[member] = _Heard(beat, now, turned_s)
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

    def _is_compatible(self, beat: Heartbeat) -> bool:
        if beat.rank == self.target_rank:
            return beat.tokenizer == self.tokenizer and beat.weights == self.weights
        return beat.tokenizer in (b"", self.tokenizer)

    def _forget(self, now: float) -> None:
        if now - self._forgot_s < _FORGET_S:
            return
        self._forgot_s = now
        self._heard = {m: heard for m, heard in self._heard.items() if now - heard.at_s < _FORGET_S}
        self.incompatible.clear()  # who still beats comes again at once

    def living(self, now: float) -> list[Heartbeat]:
        """Heartbeats of replicas that count now, by rank and name."""
        alive = [h.beat for h in tuple(self._heard.values()) if now - h.at_s <= self._timers.dead_s]
        return sorted(alive, key=lambda beat: (beat.rank, beat.replica))

    def beat_of(self, member: Member) -> Heartbeat | None:
        """The last heartbeat of a member, however old."""
        heard = self._heard.get(member)
        return heard.beat if heard else None

    def is_usable(self, now: float, member: Member) -> bool:
        """Whether the member lives, turns, is ready and does not end."""
        heard = self._heard.get(member)
        return (
            heard is not None
            and now - heard.at_s <= self._timers.dead_s
            and now - heard.turned_s <= self._timers.hung_s
            and heard.beat.ready
            and not heard.beat.draining
            and member not in self._endings
        )

    def target(self, now: float) -> Heartbeat | None:
        """A usable target replica, with or without room for more sessions; None where there is none."""
        usable = [m for m in self._heard if m[0] == self.target_rank and self.is_usable(now, m)]
        return self.beat_of(min(usable)) if usable else None

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
            identity: what the target must be; any of this chain when None.
            keep: the present route; its members stay where they are usable.
            prefix: of the session's prompt.
        """
        avoid = frozenset(without)
        route = [""] * self.num_stages
        for rank in range(self.num_stages):
            if rank != self.target_rank and not speculate:
                continue
            member = (Rank(rank), keep[rank]) if keep else None
            if member and member not in avoid and self._fits(now, member, identity):
                route[rank] = member[1]
            else:
                route[rank] = self._pick(now, Rank(rank), avoid, identity, prefix)
        return tuple(route) if route[-1] else None

    def _pick(
        self,
        now: float,
        rank: Rank,
        avoid: Collection[Member],
        identity: ChainIdentity | None,
        prefix: PrefixKeys,
    ) -> str:
        loads = {
            member: self._load(member)
            for member in self._heard
            if member[0] == rank
            and member not in avoid
            and self._fits(now, member, identity)
            and self._has_room(member)
        }
        return self._placement.choose(loads, prefix)[1] if loads else ""

    def _fits(self, now: float, member: Member, identity: ChainIdentity | None) -> bool:
        if not self.is_usable(now, member):
            return False
        is_target = member[0] == self.target_rank
        return not is_target or identity is None or self._heard[member].beat.weights == identity.weights

    def _load(self, member: Member) -> int:
        """Sessions: those that this gateway placed, or more when the replica says so (other gateways place too)."""
        return max(self._placed[member], self._heard[member].beat.sessions)

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
