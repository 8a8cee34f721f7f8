"""Random schedules, as plain values: what happens to each of several sessions, step by step.

A schedule is drawn first and played then, so a failing one shrinks. Sizes are bounded by what the session allows when its
turn comes. Every logit that an engine computes on the way is kept, and compared with an ordinary forward pass at the end.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum, auto

import torch
from hypothesis import strategies as st
from transformers import PreTrainedModel

from engine.schedule import make_work
from pipespec.engine.batch_builder import Share
from pipespec.engine.paged import PagedEngine
from pipespec.protocol.ids import SessionId, TokenId
from pipespec.protocol.sampling import Sampling
from pipespec.protocol.work import Outcome, Work

VOCAB = 64
CONTEXT = 48
SHARED = [(7 * i * i + i) % VOCAB for i in range(24)]
"""What prompts begin with, more or less of it."""


class Kind(Enum):
    """What happens to a session in a step."""

    ADVANCE = auto()
    UNDO = auto()  # a later stage contradicts what was generated
    REREAD = auto()  # the core trusts less of the cache than it might
    REST = auto()
    REOPEN = auto()


@dataclass(frozen=True, slots=True)
class Move:
    """One session's part of a step: ``size`` is how far to go back, ``num_right`` how many candidates are accepted."""

    kind: Kind
    size: int
    num_candidates: int
    num_right: int
    token: int


@dataclass(frozen=True, slots=True)
class Schedule:
    """Prompts, as lengths of shared beginning and own tail; the pool; and rows of moves, one per session."""

    prompts: list[tuple[int, int]]
    block_size: int
    num_spare: int
    chunk: int
    rounds: list[list[Move]]

    @property
    def num_blocks(self) -> int:
        """As many as one session may need, and some."""
        return max(2, -(-CONTEXT // self.block_size) + self.num_spare)


_KINDS = [Kind.ADVANCE] * 5 + [Kind.UNDO, Kind.REREAD, Kind.REST] * 2 + [Kind.REOPEN]
_MOVES = st.builds(
    Move,
    kind=st.sampled_from(_KINDS),
    size=st.integers(0, 12),
    num_candidates=st.integers(0, 6),
    num_right=st.integers(0, 6),
    token=st.integers(0, VOCAB - 1),
)
SCHEDULES = st.integers(2, 4).flatmap(
    lambda num_sessions: st.builds(
        Schedule,
        prompts=st.lists(
            st.tuples(st.sampled_from((0, 9, 16, 24, 24, 24)), st.integers(1, 6)),
            min_size=num_sessions,
            max_size=num_sessions,
        ),
        block_size=st.integers(1, 16),
        num_spare=st.integers(0, 12),
        chunk=st.integers(2, 16),
        rounds=st.lists(
            st.lists(_MOVES, min_size=num_sessions, max_size=num_sessions), min_size=16, max_size=24
        ),
    )
)


@dataclass(frozen=True, slots=True)
class Claim:
    """``logits [n, V]`` and ``picks [n]`` of an engine after the last n tokens of a text."""

    text: list[int]
    logits: torch.Tensor
    picks: list[TokenId]


class _Talk:
    """A session as its stage's core knows it: ``log`` is prompt + generated, the engine holds the first ``num_held``."""

    def __init__(self, number: int, prompt: list[int], chunk: int) -> None:
        self.session = SessionId(number.to_bytes(16, "big"))
        self.prompt = prompt
        self.log = list(prompt)
        self.num_held = 0
        self._undone: list[int] = []
        self._chunk = chunk

    def reopen(self, engine: PagedEngine, *, with_log: bool) -> None:
        """Start afresh, from the prompt or, as after a change of replicas, from what was said, or undone since."""
        if with_log:
            self.prompt = (self._undone or self.log)[: CONTEXT - 12]
            self._undone = []
        self.log = list(self.prompt)
        self.num_held = 0
        engine.open(
            self.session, prompt=[TokenId(token) for token in self.prompt], sampling=Sampling(max_tokens=99)
        )

    def cut(self, move: Move) -> Work:
        if move.kind is Kind.UNDO or len(self.log) == CONTEXT:
            self._undone = list(self.log)
            del self.log[max(len(self.prompt), len(self.log) - move.size - 1) :]
        self.num_held = min(self.num_held, len(self.log))
        start = min(self.num_held, len(self.log) - 1)
        if move.kind is Kind.REREAD:
            start = max(0, start - 3 * move.size)
        missing = self.log[start:]
        if len(missing) > self._chunk:
            return self._work(start, missing[: self._chunk], num_candidates=0, room=0)
        num = min(move.num_candidates, self._chunk - len(missing), CONTEXT - len(self.log) - 1)
        candidates = [(move.token + 17 * index) % VOCAB for index in range(num)]
        return self._work(start, missing + candidates, num_candidates=num, room=num + 1)

    def _work(self, start: int, tokens: Sequence[int], *, num_candidates: int, room: int) -> Work:
        num_prompt = len(self.prompt)
        return make_work(
            self.session,
            start=start,
            tokens=tokens,
            num_candidates=num_candidates,
            num_prompt=num_prompt,
            room=room,
        )

    def apply(self, move: Move, work: Work, outcome: Outcome) -> list[int]:
        """Go on from an outcome; the text whose end was picked after, empty without picks."""
        fed = work.start + len(work.tokens)
        if outcome.held != fed or work.room == 0:
            assert outcome.picks == []
            assert outcome.held <= fed or outcome.held < len(self.prompt)
            self.num_held = outcome.held
            return []
        assert len(outcome.picks) == work.room
        text = self.log + list(work.candidates)
        num_right = min(move.num_right, work.num_candidates)
        self.num_held = len(self.log) + num_right
        self.log = [*text[: self.num_held], move.token]
        return text


class _Tap:
    """Keeps the logits of a step, share by share."""

    def __init__(self, forward: Callable[[Sequence[Share]], torch.Tensor]) -> None:
        self.seen: list[torch.Tensor] = []
        self._forward = forward

    def __call__(self, shares: Sequence[Share]) -> torch.Tensor:
        logits = self._forward(shares)
        lengths = [len(share.logits_of) for share in shares]
        self.seen = [one for one in torch.split(logits[: sum(lengths)], lengths) if len(one)]
        return logits


def play(schedule: Schedule, engine: PagedEngine, seen: Counter[str]) -> list[Claim]:
    """Run a schedule to its end and close all sessions; ``seen`` counts the rare things that happened."""
    copy_slots = engine._runner.pool.copy_slots

    def counted(source: torch.Tensor, target: torch.Tensor) -> None:
        seen["copied"] += 1
        copy_slots(source, target)

    engine._runner.pool.copy_slots = counted  # type: ignore[method-assign]  # counts what it does
    engine._forward = tap = _Tap(engine._forward)
    talks = [
        _Talk(number, SHARED[:shared] + [(31 * number + i) % VOCAB for i in range(own)], schedule.chunk)
        for number, (shared, own) in enumerate(schedule.prompts)
    ]
    for talk in talks:
        talk.reopen(engine, with_log=False)
    claims = []
    for moves in schedule.rounds:
        for talk, move in zip(talks, moves, strict=True):
            if move.kind is Kind.REOPEN:
                talk.reopen(engine, with_log=move.size % 4 > 0)
        moved = [(t, m) for t, m in zip(talks, moves, strict=True) if m.kind is not Kind.REST]
        batch = [talk.cut(move) for talk, move in moved]
        tap.seen = []
        outcomes = engine.step(batch)
        logits = iter(tap.seen)
        for (talk, move), work, outcome in zip(moved, batch, outcomes, strict=True):
            text = talk.apply(move, work, outcome)
            if text:
                claims.append(Claim(text, next(logits), list(outcome.picks)))
        assert next(logits, None) is None
    for talk in talks:
        engine.close(talk.session)
    assert engine.blocks.num_held == 0
    seen["preempted"] += engine.cache_use.preempted
    seen["adopted"] += engine.cache_use.adopted
    return claims


@torch.inference_mode()
def check(claims: Sequence[Claim], model: PreTrainedModel, *, tolerance: float) -> None:
    """Compare with one ordinary pass over all the texts, filled up at their ends, which changes nothing before."""
    if not claims:
        return
    longest = max(len(claim.text) for claim in claims)
    texts = [claim.text + [0] * (longest - len(claim.text)) for claim in claims]
    ordinary = model(input_ids=torch.tensor(texts), use_cache=False).logits
    for claim, logits in zip(claims, ordinary, strict=True):
        end = len(claim.text)
        expected = logits[end - len(claim.logits) : end]
        assert (claim.logits - expected).abs().max() <= tolerance, claim.text
        best, second = expected.topk(2).values.unbind(-1)
        clear = (best - second > 2 * tolerance).nonzero().flatten().tolist()
        assert [claim.picks[row] for row in clear] == expected.argmax(-1)[clear].tolist(), claim.text
