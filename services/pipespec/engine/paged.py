"""The engine: one model, many sessions, one forward pass for all of them.

A step takes shares of different lengths: prefill chunks, candidates to check, single tokens. Keys and values live in a
pool of blocks; cutting a session back is a change of its length. A prompt whose beginning is in the pool already is
not computed again. When blocks run out, the youngest session gives its own back and is fed again later, from its log:
its outcome says how little is held.

Shape symbols: R = picks of a step, V = vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from pipespec.engine.batch_builder import Share
from pipespec.engine.blocks import BlockPool
from pipespec.engine.checkpoint import vocab_size
from pipespec.engine.paged_session import OutOfBlocks, PagedSession
from pipespec.engine.runner import ModelRunner
from pipespec.engine.sampler import PickRequest, by_request, pick
from pipespec.ops.errors import InvariantBroken, OutOfMemory
from pipespec.protocol.ids import SessionId, TokenId
from pipespec.protocol.sampling import Sampling
from pipespec.protocol.work import CacheUse, Outcome, Work, idle


@dataclass(frozen=True, slots=True)
class EngineLimits:
    """What one step takes, and what a session may hold.

    Attributes:
        context_len: tokens of a session.
        max_chunk: tokens of one session in a step.
        max_step_tokens: tokens of all sessions in a step.
        max_batch: sessions in a step.
        block_size: tokens per block.
    """

    context_len: int
    max_chunk: int
    max_step_tokens: int
    max_batch: int
    block_size: int = 16


@dataclass(slots=True)
class _Item:
    """A piece of work on its way through a step; ``share`` is None where there is nothing to compute."""

    work: Work
    session: PagedSession
    share: Share | None = None


class PagedEngine:
    """An ``Engine`` over a model.

    Args:
        runner: the model and its pool.
        forward: runs it over the shares of a step; logits ``[R, V]`` of what they ask for, or more rows after those.
        blocks: whose slots are the runner's.
        limits: of steps and sessions.
    """

    is_model_free = False

    def __init__(
        self,
        runner: ModelRunner,
        blocks: BlockPool,
        limits: EngineLimits,
        *,
        forward: Callable[[Sequence[Share]], torch.Tensor],
    ) -> None:
        self.context_len = limits.context_len
        self.max_chunk = limits.max_chunk
        self.max_step_tokens = limits.max_step_tokens
        self.max_batch = limits.max_batch
        self.dtype = str(runner.model.dtype).removeprefix("torch.")
        self.vocab_size = vocab_size(runner.model)
        self.blocks = blocks
        self._num_preempted = 0
        self._num_adopted = 0
        self._runner = runner
        self._block_size = limits.block_size
        self._forward = forward
        self._is_asynchronous = runner.model.device.type != "cpu"
        self._sessions: dict[SessionId, PagedSession] = {}
        self._num_opened = 0

    @property
    def cache_use(self) -> CacheUse:
        """How full the pool is."""
        blocks, size = self.blocks, self._block_size
        return CacheUse(
            capacity=blocks.num_blocks * size,
            held=blocks.num_held * size,
            cached=blocks.num_cached * size,
            adopted=self._num_adopted,
            preempted=self._num_preempted,
        )

    def open(self, session: SessionId, *, prompt: Sequence[TokenId], sampling: Sampling) -> None:
        """Start a session that holds nothing yet."""
        self.close(session)
        self._num_opened += 1
        self._sessions[session] = PagedSession(
            order=self._num_opened, prompt=prompt, sampling=sampling, block_size=self._block_size
        )

    def close(self, session: SessionId) -> None:
        """Give a session's blocks back."""
        held = self._sessions.pop(session, None)
        if held is not None:
            held.release(self.blocks)

    @torch.inference_mode()
    def step(self, batch: Sequence[Work], *, meanwhile: Callable[[], None] = idle) -> list[Outcome]:
        """Run one forward pass over all that fits; on a GPU ``meanwhile`` runs beside it."""
        items = [_Item(work, self._checked(work)) for work in batch]
        for item in sorted(items, key=lambda item: item.session.order):  # the oldest gets its blocks first
            self._admit(item)
        shares = [item for item in items if item.share is not None]
        picks = self._run(shares, meanwhile)
        by_session = {item.work.session: one for item, one in zip(shares, picks, strict=True)}
        return [
            Outcome(picks=by_session.get(item.work.session, []), held=len(item.session.tokens))
            for item in items
        ]

    def _admit(self, item: _Item) -> None:
        """Cut the session back, find what is cached, and reserve blocks; ``item.share`` says what is to be fed."""
        work, session = item.work, item.session
        if work.start > len(session.tokens):
            return  # preempted since: it is told how much is held
        session.truncate(work.start)
        if not session.tokens and not session.table:
            session.adopt(self.blocks)
            self._num_adopted += len(session.tokens)
        end = work.start + len(work.tokens)
        start = len(session.tokens)
        if start >= end:
            return
        if not self._reserve(session, end):
            return
        fed = work.tokens[start - work.start :]
        table = session.table[: -(-end // self._block_size)]
        first = len(fed) - work.num_candidates - 1
        item.share = Share(fed, start, table, range(first, first + min(work.room, work.num_candidates + 1)))

    def _reserve(self, session: PagedSession, end: int) -> bool:
        """Whether blocks for the first ``end`` tokens are there, if need be after taking them from younger sessions."""
        while True:
            try:
                copied = session.reserve(self.blocks, end)
            except OutOfBlocks:
                holders = [one for one in self._sessions.values() if one.table or one is session]
                youngest = max(holders, key=lambda one: one.order)
                self._num_preempted += (
                    1  # work of its own comes later in this batch, and is told what is held
                )
                youngest.release(self.blocks)
                if youngest is session:
                    return False
            else:
                if copied is not None:
                    self._copy(*copied)
                return True

    def _copy(self, source: int, target: int) -> None:
        offsets = torch.arange(self._block_size)
        moved = [
            (block * self._block_size + offsets).to(self._runner.model.device) for block in (source, target)
        ]
        self._runner.pool.copy_slots(*moved)

    def _run(self, items: Sequence[_Item], meanwhile: Callable[[], None]) -> list[list[TokenId]]:
        if not self._is_asynchronous or not items:
            meanwhile()
        if not items:
            return []
        shares = [item.share for item in items if item.share is not None]
        try:
            picks, requests = self._launch(items, shares)
        except torch.OutOfMemoryError as error:
            for item, share in zip(items, shares, strict=True):
                item.session.truncate(share.start)
            raise OutOfMemory(str(error)) from error
        if self._is_asynchronous:
            meanwhile()
        return by_request(picks, requests)

    def _launch(
        self, items: Sequence[_Item], shares: Sequence[Share]
    ) -> tuple[torch.Tensor, list[PickRequest]]:
        """The pass and the choice, under way on the device."""
        logits = self._forward(shares)
        requests = []
        for item, share in zip(items, shares, strict=True):
            session, work = item.session, item.work
            session.tokens.extend(share.tokens)
            # Candidates may still be undone; what they build on was checked here.
            session.publish(self.blocks, len(session.tokens) - work.num_candidates)
            requests.append(
                PickRequest(
                    num_rows=len(share.logits_of),
                    base=work.base,
                    prompt=session.prompt,
                    generated=session.tokens[len(session.prompt) :] if session.sampling.uses_history else (),
                    sampling=session.sampling,
                )
            )
        return pick(logits, requests), requests

    def _checked(self, work: Work) -> PagedSession:
        """The work's session.

        Raises:
            InvariantBroken: the work does not fit the session or the model.
        """
        name = work.session.hex()
        session = self._sessions.get(work.session)
        if session is None:
            raise InvariantBroken(f"work for session {name}, which is not open")
        if not work.num_candidates < len(work.tokens) <= self.max_chunk:
            raise InvariantBroken(
                f"session {name}: expected 1 to {self.max_chunk} tokens, more than the {work.num_candidates} "
                f"candidates; got {len(work.tokens)}"
            )
        if work.start + len(work.tokens) > self.context_len:
            raise InvariantBroken(
                f"session {name}: {work.start + len(work.tokens)} tokens, the context is {self.context_len}"
            )
        unknown = [token for token in work.tokens if not 0 <= token < self.vocab_size]
        if unknown:
            raise InvariantBroken(f"session {name}: token {unknown[0]}, the vocabulary has {self.vocab_size}")
        return session
