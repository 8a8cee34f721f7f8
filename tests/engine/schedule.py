"""Drives an engine as a stage's core does: chunked prefill, verification of candidates, rollbacks, many sessions."""

from __future__ import annotations

import random
from collections.abc import Sequence

from pipespec.protocol.ids import Digest, Epoch, Position, SessionId, TokenId
from pipespec.protocol.sampling import Sampling
from pipespec.protocol.work import Engine, Outcome, Work


def make_work(
    session: SessionId, *, start: int, tokens: Sequence[int], num_candidates: int, num_prompt: int, room: int
) -> Work:
    """Work as ``StageSession`` would cut it; the engine looks at neither epoch nor digest."""
    return Work(
        session=session,
        epoch=Epoch(0),
        start=start,
        tokens=tuple(TokenId(token) for token in tokens),
        num_candidates=num_candidates,
        base=Position(max(0, start + len(tokens) - num_candidates - num_prompt)),
        digest=Digest(b""),
        room=room,
    )


class Script:
    """One session under a random schedule, until its picks cover ``reference``.

    Candidates are right with probability ``agreement`` each. Before a step, up to 12 picks may be
    cut off, as when a later stage contradicts; they are picked again.
    """

    def __init__(
        self, *, prompt: Sequence[int], reference: Sequence[int], vocab_size: int, seed: int
    ) -> None:
        self.random = random.Random(seed)
        self.session = SessionId(self.random.randbytes(16))
        self.prompt = tuple(prompt)
        self.reference = tuple(reference)
        self.picked: list[int] = []
        self._vocab_size = vocab_size
        self._num_cached = 0

    @property
    def is_done(self) -> bool:
        return len(self.picked) >= len(self.reference)

    def open(self, engine: Engine, sampling: Sampling) -> None:
        engine.open(self.session, prompt=[TokenId(token) for token in self.prompt], sampling=sampling)

    def next_work(self) -> Work:
        if self.picked and self.random.random() < 0.15:
            del self.picked[-self.random.randint(1, 12) :]
        text = (*self.prompt, *self.picked)
        start = min(self._num_cached, len(text) - 1)
        if self.random.random() < 0.1:
            start = max(
                0, start - self.random.randint(1, 12)
            )  # a core may ask for more than it needs to be fed again
        chunk = self.random.randint(4, 16)
        if len(text) - start > chunk:
            self._num_cached = start + chunk
            return self._cut(start, text[start : start + chunk], num_candidates=0, room=0)
        candidates = self._candidates()
        self._num_cached = len(text)
        room = len(candidates) + 1
        return self._cut(start, (*text[start:], *candidates), num_candidates=len(candidates), room=room)

    def _candidates(self) -> list[int]:
        left = self.reference[len(self.picked) : -1]
        true = left[: self.random.choice((0, 0, 1, 2, 4, 8))]
        agreement = self.random.choice((0.2, 0.9, 1.0))
        return [
            token if self.random.random() < agreement else self.random.randrange(self._vocab_size)
            for token in true
        ]

    def _cut(self, start: int, tokens: Sequence[int], *, num_candidates: int, room: int) -> Work:
        return make_work(
            self.session,
            start=start,
            tokens=tokens,
            num_candidates=num_candidates,
            num_prompt=len(self.prompt),
            room=room,
        )

    def on_outcome(self, work: Work, outcome: Outcome) -> None:
        """Keep the longest right prefix of the candidates and the pick after it."""
        picks, fed = outcome.picks, work.start + len(work.tokens)
        if outcome.held != fed or work.room == 0:
            assert picks == []
            self._num_cached = min(outcome.held, len(self.prompt)) if outcome.held > fed else outcome.held
            return
        assert len(picks) == work.num_candidates + 1
        right = 0
        while right < work.num_candidates and work.candidates[right] == picks[right]:
            right += 1
        self.picked += picks[: right + 1]
        self._num_cached += right


def run_interleaved(engine: Engine, scripts: Sequence[Script], *, sampling: Sampling, seed: int) -> None:
    """Run all scripts to their ends, random ones of them in every step."""
    order = random.Random(seed)
    for script in scripts:
        script.open(engine, sampling)
    while running := [script for script in scripts if not script.is_done]:
        chosen = order.sample(running, order.randint(1, len(running)))
        batch = [script.next_work() for script in chosen]
        for script, work, outcome in zip(chosen, batch, engine.step(batch), strict=True):
            script.on_outcome(work, outcome)
