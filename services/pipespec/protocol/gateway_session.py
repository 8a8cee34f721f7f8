"""One session at the gateway: the owner of the committed prefix.

Sans-I/O. The target proposes, the gateway commits: it appends what fits by position and digest, and what it has
committed is never changed, not even when two target replicas disagree numerically. Position is sequence number.
Source: DESIGN section 3; RELIABILITY R1, R4.
"""

from __future__ import annotations

from enum import Enum, auto

from pipespec.protocol.ids import Epoch, Member, Position, Rank, SessionId, TokenId, Topic, stage_inbox
from pipespec.protocol.messages import ChainIdentity, Close, EndReason, Open, Segment, SessionState
from pipespec.protocol.placement import PrefixKeys
from pipespec.protocol.rules import Rules
from pipespec.protocol.sampling import Sampling
from pipespec.protocol.tokenlog import TokenLog

TAIL = 16
"""Committed tokens that a heartbeat's ``state`` carries; who is further behind asks with ``sync``."""


class Commit(Enum):
    """What became of a target's segment."""

    EXTENDED = auto()
    """New tokens are committed."""
    KNOWN = auto()
    """All of it was committed before."""
    FORKED = auto()
    """It contradicts what is committed; the first branch stays."""
    UNFIT = auto()
    """It begins beyond the committed prefix."""


class GatewaySession:
    """A session from the client's request to its last token. Times are the caller's seconds."""

    def __init__(
        self,
        session: SessionId,
        *,
        now: float,
        prompt: tuple[TokenId, ...],
        sampling: Sampling,
        identity: ChainIdentity,
        vocab_size: int,
        route: tuple[str, ...],
        speculate: bool,
        rules: Rules,
        prefix: PrefixKeys = (),
    ) -> None:
        self.session = session
        self.sampling = sampling
        self.identity = identity
        self.vocab_size = vocab_size
        self._set_route(route)
        self.speculate = speculate
        self.prefix = prefix
        self.epoch = Epoch(0)
        self.end: EndReason | None = None
        self.progress_s = now
        self.rerouted_s = now
        self.committed_s = now
        self.num_stalls = 0
        self.suspects: set[Member] = set()
        self._avoid: dict[Member, float] = {}
        self._synced_s: dict[Topic, float] = {}
        self._log = TokenLog(identity, prompt)
        self._rules = rules

    @property
    def committed(self) -> Position:
        """Length of the committed prefix."""
        return Position(len(self._log))

    @property
    def num_tokens(self) -> int:
        """Prompt and committed tokens: what a new target reads before it says anything."""
        return len(self._log.prompt) + len(self._log)

    def _set_route(self, route: tuple[str, ...]) -> None:
        self.route = route
        self.inboxes = [stage_inbox(Rank(rank), name) for rank, name in enumerate(route) if name]
        self.target_inbox = stage_inbox(Rank(len(route) - 1), route[-1])

    def suspect(self, target: Member) -> None:
        """The target let the session rest for too long: until the next commit others are tried first."""
        self.num_stalls += 1
        self.suspects.add(target)

    def avoid(self, member: Member, *, until: float) -> None:
        """Do not route through ``member`` before ``until``."""
        self._avoid[member] = until

    def avoided(self, now: float) -> set[Member]:
        """Members that must not be in a route now."""
        return {member for member, until in self._avoid.items() if now < until}

    def may_sync(self, now: float, inbox: Topic, *, every_s: float) -> bool:
        """Whether a ``sync`` of a member of the route is answered now, or too soon after its last one (R7).

        Honest stages keep ``every_s`` between two, but what leaves so may arrive closer together.
        """
        if now - self._synced_s.get(inbox, float("-inf")) < every_s / 2:
            return False
        self._synced_s[inbox] = now
        return True

    def tokens(self, start: int, end: int) -> tuple[TokenId, ...]:
        """Committed tokens at [start, end)."""
        return self._log.slice(start, end)

    def on_segment(self, now: float, segment: Segment) -> Commit:
        """Commit what fits. Only a commit resets the timer that suspects the target (RELIABILITY R11)."""
        held = len(self._log)
        if self.end is not None:
            return Commit.KNOWN
        if not self._rules.dedup_by_position:
            self._append(segment.tokens)
            return Commit.EXTENDED
        if segment.base > held:
            return Commit.UNFIT
        if self._rules.check_digest and segment.digest != self._log.digest_at(segment.base):
            return Commit.FORKED
        end = segment.base + len(segment.tokens)
        fork = self._log.common_prefix(segment.base, segment.tokens)
        if fork < min(held, end):
            if self._rules.first_branch_stays:
                return Commit.FORKED
            self._log.truncate(fork)
            held = fork
        if end <= held:
            return Commit.KNOWN
        self._append(segment.tokens[held - segment.base :])
        self.progress_s, self.num_stalls = now, 0
        self.suspects.clear()
        return Commit.EXTENDED

    def _append(self, tokens: tuple[TokenId, ...]) -> None:
        tokens = tokens[: self.sampling.max_tokens - len(self._log)]
        stop_ids = self.sampling.stop_ids
        stop = next((index for index, token in enumerate(tokens, start=1) if token in stop_ids), None)
        self._log.extend(tokens[:stop])
        if stop is not None:
            self.end = EndReason.STOP
        elif len(self._log) == self.sampling.max_tokens:
            self.end = EndReason.LENGTH

    def reroute(self, now: float, route: tuple[str, ...]) -> None:
        """Go over to another route: the next epoch starts, the committed prefix goes along.

        A new target gets its time; the move of an optional stage gives an old one none (RELIABILITY R11).
        """
        if route[-1] != self.route[-1] or not self._rules.target_alone_resets_stall:
            self.progress_s = now
        self._set_route(route)
        self.epoch = Epoch(self.epoch + 1)
        self.rerouted_s = now

    # What the gateway says of it

    def open_message(self) -> Open:
        """Everything that a replica needs to take part from here on."""
        return Open(
            session=self.session,
            epoch=self.epoch,
            route=self.route,
            identity=self.identity,
            prompt=self._log.prompt,
            sampling=self.sampling,
            committed=self._log.slice(0, len(self._log)),
        )

    def state_entry(self, *, since: int | None = None) -> SessionState:
        """The committed prefix's length, digest and last tokens: from ``since`` on, or the last few."""
        committed = len(self._log)
        start = max(0, committed - TAIL) if since is None else since
        return SessionState(
            session=self.session,
            epoch=self.epoch,
            committed=Position(committed),
            digest=self._log.digest_at(committed),
            tail=self._log.slice(start, committed),
        )

    def agrees(self, position: Position, digest: bytes) -> bool:
        """Whether a replica whose digest at ``position`` is ``digest`` holds the committed tokens up to there."""
        return position <= len(self._log) and digest == self._log.digest_at(position)

    def close_message(self, reason: EndReason) -> Close:
        """The end, for every stage of the route."""
        return Close(session=self.session, epoch=self.epoch, reason=reason)
