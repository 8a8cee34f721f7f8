"""One session at one stage: what to check next, what to say, and whom to believe.

Sans-I/O. The log at stage r reads::

    [0, committed) final; [committed, own) said by this stage or a later one, may be rolled back;
    [own, len) candidates of the earlier stage, unchecked

A step checks *all candidates that are there* in one pass, keeps the longest prefix that equals the stage's own
picks and adds one token of its own. Every publication carries the whole window [committed, own).
Source: DESIGN section 3; the pipeline of arXiv 2505.01572, section 3.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pipespec.protocol.claims import ClaimedLog, Merge
from pipespec.protocol.ids import Epoch, Position, Rank, TokenId, Topic, stage_inbox
from pipespec.protocol.messages import (
    MAX_WINDOW,
    Open,
    Segment,
    SegmentKind,
    SessionState,
    StageCounters,
    StepShare,
)
from pipespec.protocol.rules import Rules
from pipespec.protocol.tally import Tally
from pipespec.protocol.tokenlog import TokenLog
from pipespec.protocol.work import Outcome, Work


@dataclass(frozen=True, slots=True)
class StageLimits:
    """What a stage's engine and settings allow.

    Attributes:
        lookahead: tokens that it may be ahead of the next stage; the target is bound by ``max_window``.
        max_chunk: tokens of one session in one step.
        context_len: prompt and generated tokens that its engine can hold; beyond it the stage falls silent.
        is_model_free: its picks are guesses that may fail to come.
        max_window: uncommitted tokens at most.
    """

    lookahead: int
    max_chunk: int
    context_len: int
    is_model_free: bool = False
    max_window: int = MAX_WINDOW


class StageSession:
    """A session from its ``open`` to its ``close``. Times are the caller's seconds."""

    def __init__(
        self, message: Open, *, rank: Rank, gateway: Topic, limits: StageLimits, rules: Rules
    ) -> None:
        log = TokenLog(message.identity, message.prompt)
        self.claims = ClaimedLog(log, num_stages=len(message.route), rules=rules)
        self.claims.merge(
            self.claims.gateway, base=Position(0), digest=log.digest_at(0), tokens=message.committed
        )
        self.session = message.session
        self.rank = rank
        self.gateway = gateway
        self.sampling = message.sampling
        self._tally = Tally()
        self.last_share: StepShare | None = None
        self.heard_s = 0.0
        self.said_s = 0.0
        self.synced_s = float("-inf")
        self.worked_s = float("-inf")
        self.answered_s = float("-inf")
        self._limits = limits
        self._rules = rules
        self._num_prompt = len(message.prompt)
        self._num_cached = 0
        self._in_flight = False
        self._no_guess_at: tuple[int, bytes] | None = None
        self._kind = SegmentKind.VERIFICATION
        self._news_at = Position(0)
        self._set_route(message.epoch, message.route)

    def _set_route(self, epoch: Epoch, route: tuple[str, ...]) -> None:
        self.epoch = epoch
        self.route = route
        self._inboxes = {stage_inbox(Rank(r), name): Rank(r) for r, name in enumerate(route) if name}
        later = [Rank(r) for r in range(self.rank + 1, len(route)) if route[r]]
        self._next = later[0] if later else self.claims.gateway
        self._earlier = [Rank(r) for r in range(self.rank) if route[r]]

    # What is known

    @property
    def is_target(self) -> bool:
        """The last stage: what it says goes to the gateway."""
        return self.rank == self.claims.gateway - 1

    @property
    def counters(self) -> StageCounters:
        """What this stage did for the session so far."""
        return self._tally.told()

    @property
    def own(self) -> Position:
        """Length of what this stage stands by: its own words and those of later stages."""
        return self.claims.said_from(self.rank)

    @property
    def is_reading(self) -> bool:
        """Much is still to be fed before it can generate: a prompt, or what was lost with a cache."""
        return self._num_prompt + self.own - self._num_cached > self._limits.max_window

    def lacks_candidates(self, wanted: int) -> bool:
        """Whether fewer than ``wanted`` are there although an earlier stage may still bring useful ones."""
        own = self.own
        useful = min(wanted, self._room(own) - 1)
        candidates = self._candidates(own, useful)
        is_whole = bool(candidates) and candidates[-1] in self.sampling.stop_ids
        return bool(self._earlier) and len(candidates) < useful and not is_whole

    def rank_of(self, sender: Topic) -> Rank | None:
        """The sender's place in this session's route, None for strangers."""
        return self._inboxes.get(sender)

    def began_as(self, message: Open) -> bool:
        """Whether this is the session that the gateway means: a damaged memory may have made another one of it."""
        log = self.claims.log
        return message.prompt == log.prompt and message.sampling == self.sampling

    # What others say

    def reroute(self, message: Open) -> None:
        """Go over to a newer epoch's route; the log and the cache stay."""
        self._set_route(message.epoch, message.route)
        self.claims.forget_claims(self.rank)
        self.claims.drop_unsaid(self.rank)

    def on_open(self, message: Open) -> Merge:
        """Take over what a repeated ``open`` says is committed."""
        before = self.own
        merged = self.claims.merge(
            self.claims.gateway,
            base=Position(0),
            digest=self.claims.log.digest_at(0),
            tokens=message.committed,
        )
        self._count_undone(before)
        return merged

    def on_segment(self, rank: Rank, segment: Segment) -> Merge:
        """Merge what the stage at ``rank`` says."""
        before = self.own
        merged = self.claims.merge(rank, base=segment.base, digest=segment.digest, tokens=segment.tokens)
        if rank > self.rank:
            self._count_undone(before)
        return merged

    def on_state(self, entry: SessionState) -> Merge:
        """Merge what the gateway has committed."""
        before = self.own
        merged = self.claims.commit(entry.committed, entry.digest, entry.tail)
        self._count_undone(before)
        return merged

    def _count_undone(self, before: Position) -> None:
        undone = before - self.claims.low_water
        if undone > 0:
            self._tally.rolled_back += undone
        self._trust_cache_up_to(self.claims.take_low_water())

    def _trust_cache_up_to(self, length: int) -> None:
        self._num_cached = min(self._num_cached, self._num_prompt + length)

    # What to do

    def work(self, *, max_tokens: int) -> Work | None:
        """The next step's share of at most ``max_tokens``, or None where nothing can or need be done now."""
        self._trust_cache_up_to(self.claims.take_low_water())
        own = self.own
        room = self._room(own)
        if self._in_flight or room <= 0:
            return None
        end = self._num_prompt + own
        start = min(self._num_cached, end - 1)
        most = min(self._limits.max_chunk, max_tokens)
        if end - start > most:
            chunk = self.claims.log.all_tokens(start, start + most)
            return self._launch(start, chunk, num_candidates=0, room=0) if chunk else None
        candidates = self._candidates(own, min(room - 1, most - (end - start)))
        if self._limits.is_model_free:
            if self._no_guess_at == (own, self.claims.log.digest_at(own)):
                return None
        elif not candidates and self._earlier and not self._rules.decode_alone:
            return None
        else:
            room = len(candidates) + 1
        fed = self.claims.log.all_tokens(start, end) + candidates
        return self._launch(start, fed, num_candidates=len(candidates), room=room)

    def _room(self, own: Position) -> int:
        """Tokens that may be said now: bounded by lookahead, window, context and the request; 0 when complete."""
        if own > 0 and self.claims.log.slice(own - 1, own)[0] in self.sampling.stop_ids:
            return 0
        ahead = own - self.claims.said_from(self._next)
        lookahead = self._limits.max_window if self.is_target else self._limits.lookahead
        return min(
            lookahead - ahead,
            self._window_room(own),
            self.sampling.max_tokens - own,
            self._limits.context_len - self._num_prompt - own,
        )

    def _window_room(self, own: Position) -> int:
        if not self._rules.bounded_window:
            return self._limits.max_window
        return self._limits.max_window - (own - self.claims.committed)

    def _candidates(self, own: Position, most: int) -> tuple[TokenId, ...]:
        candidates = self.claims.log.slice(own, own + max(0, most))
        for index, token in enumerate(candidates):
            if token in self.sampling.stop_ids:
                return candidates[: index + 1]
        return candidates

    def _launch(self, start: int, fed: tuple[TokenId, ...], *, num_candidates: int, room: int) -> Work:
        own = self.own
        self._in_flight = True
        self._num_cached = start + len(fed)  # when the step ends; whatever is undone until then lowers it
        return Work(
            session=self.session,
            epoch=self.epoch,
            start=start,
            tokens=fed,
            num_candidates=num_candidates,
            base=own,
            digest=self.claims.log.digest_at(own),
            room=room,
        )

    def on_outcome(self, work: Work, outcome: Outcome, *, busy_us: int) -> bool:
        """Apply a step's result; whether there is something new to say. ``last_share`` tells what it was.

        Messages may have changed the log while the step ran: what a later stage said in the meantime wins, and a
        result whose prefix is gone is dropped.
        """
        self._in_flight = False
        self.last_share = None
        fed = work.start + len(work.tokens)
        if outcome.held < fed:  # the cache was given away: nothing was computed
            self._num_cached = min(self._num_cached, outcome.held)
            return False
        if self._num_cached == fed:  # what is held beyond is the prompt's beginning, which never changes
            self._num_cached = max(fed, min(outcome.held, self._num_prompt))
        said, accepted = self._judge(work, outcome.picks)
        contradicted = accepted < work.num_candidates and len(said) > accepted
        merged = self.claims.merge(self.rank, base=work.base, digest=work.digest, tokens=said)
        self._trust_cache_up_to(self.claims.take_low_water())
        self._count_step(work, len(said), accepted, contradicted=contradicted, busy_us=busy_us)
        self.last_share = StepShare(
            session=self.session,
            base=work.base,
            fed=len(work.tokens),
            candidates=work.num_candidates,
            accepted=accepted,
            said=len(said),
        )
        if work.room > 0 and not said:
            self._no_guess_at = (work.base, work.digest)
        if merged is not Merge.APPLIED or not said:
            return False
        self._kind = SegmentKind.ROLLBACK if contradicted else SegmentKind.VERIFICATION
        self._news_at = work.base
        return True

    def _judge(self, work: Work, picks: Sequence[TokenId]) -> tuple[list[TokenId], int]:
        """The words that stand, and how many of them are accepted candidates."""
        candidates = work.candidates
        said: list[TokenId] = []
        for index, pick in enumerate(picks):
            said.append(pick)
            if index < len(candidates) and pick != candidates[index]:
                return said, index
            if pick in self.sampling.stop_ids:
                return said, min(index + 1, len(candidates))
        return said, min(len(said), len(candidates))

    def _count_step(
        self, work: Work, num_said: int, accepted: int, *, contradicted: bool, busy_us: int
    ) -> None:
        tally = self._tally
        tally.steps += 1
        tally.prefill_steps += work.room == 0
        tally.tokens += num_said
        tally.checked += work.num_candidates
        tally.accepted += accepted
        tally.rollbacks += contradicted
        tally.busy_us += busy_us

    # What to say

    def segments(self) -> list[tuple[Topic, Segment]]:
        """The window, for everyone whom it concerns; nothing when all of it is committed."""
        base, own = self.claims.committed, self.own
        if own <= base:
            return []
        sends = [(stage_inbox(r, self.route[r]), self._segment(self._kind)) for r in self._earlier]
        if self.is_target:
            sends.append((self.gateway, self._segment(self._kind)))
        elif own > self.claims.said_from(self._next):
            inbox = stage_inbox(self._next, self.route[self._next])
            sends.append((inbox, self._segment(SegmentKind.SPECULATION)))
        return sends

    def _segment(self, kind: SegmentKind) -> Segment:
        base = self.claims.committed
        if not self._rules.whole_window:
            base = max(base, min(self._news_at, self.own))
        return Segment(
            kind=kind,
            session=self.session,
            epoch=self.epoch,
            base=base,
            digest=self.claims.log.digest_at(base),
            tokens=self.claims.log.slice(base, min(self.own, base + MAX_WINDOW)),
        )
