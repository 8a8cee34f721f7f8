"""The leader's engine, and what the followers do with what it tells.

The leader tells a call first and makes it then, so that the ranks run the forward pass together. Only the leader's
outcomes count; a follower's are thrown away.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from pipespec.engine.parallel.calls import Call, Close, Open, Step, Stop, decode, encode
from pipespec.engine.parallel.group import RankGroup
from pipespec.ops.errors import InvariantBroken, OutOfMemory
from pipespec.protocol.ids import SessionId, TokenId
from pipespec.protocol.sampling import Sampling
from pipespec.protocol.work import CacheUse, Engine, Outcome, Work, idle


class LeaderEngine:
    """An ``Engine`` that runs on all ranks.

    Args:
        engine: this rank's.
        group: whose followers run ``follow`` with theirs.
    """

    def __init__(self, engine: Engine, group: RankGroup) -> None:
        self.max_batch = engine.max_batch
        self.max_chunk = engine.max_chunk
        self.max_step_tokens = engine.max_step_tokens
        self.vocab_size = engine.vocab_size
        self.context_len = engine.context_len
        self.is_model_free = engine.is_model_free
        self._engine = engine
        self._group = group

    @property
    def cache_use(self) -> CacheUse:
        """This rank's; the others' is the same."""
        return self._engine.cache_use

    def open(self, session: SessionId, *, prompt: Sequence[TokenId], sampling: Sampling) -> None:
        """Make room for a session on every rank."""
        self._tell(Open(session, prompt, sampling))
        self._engine.open(session, prompt=prompt, sampling=sampling)

    def step(self, batch: Sequence[Work], *, meanwhile: Callable[[], None] = idle) -> list[Outcome]:
        """Run one forward pass on all ranks together; ``meanwhile`` runs on this one."""
        self._tell(Step(batch))
        try:
            return self._engine.step(batch, meanwhile=meanwhile)
        except (
            OutOfMemory
        ) as error:  # the others are in the middle of the pass and wait for this rank: start afresh
            raise InvariantBroken(f"a rank of a split model is out of memory: {error}") from error

    def close(self, session: SessionId) -> None:
        """Free what a session holds on every rank."""
        self._tell(Close(session))
        self._engine.close(session)

    def stop(self) -> None:
        """End the followers; no call may follow."""
        self._tell(Stop())

    def _tell(self, call: Call) -> None:
        self._group.send(encode(call))


def follow(engine: Engine, group: RankGroup) -> None:
    """Make every call that the leader tells, until it says stop.

    Raises:
        RankLost: the leader ended without saying so.
    """
    while True:
        match decode(group.receive()):
            case Open(session=session, prompt=prompt, sampling=sampling):
                engine.open(session, prompt=prompt, sampling=sampling)
            case Step(batch=batch):
                engine.step(batch)
            case Close(session=session):
                engine.close(session)
            case Stop():
                return
