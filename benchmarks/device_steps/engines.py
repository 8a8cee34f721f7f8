"""Engines to be timed over one model, and sessions for them."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from random import Random

import torch
from transformers import PreTrainedModel

from pipespec.engine.assembly import Steps, run_ragged
from pipespec.engine.batch_builder import BatchBuilder
from pipespec.engine.blocks import BlockPool
from pipespec.engine.captured import CapturedSteps, CudaGraphs, uncaptured
from pipespec.engine.paged import EngineLimits, PagedEngine
from pipespec.engine.runner import ModelRunner
from pipespec.protocol.ids import Digest, Epoch, Position, SessionId, TokenId
from pipespec.protocol.sampling import Sampling
from pipespec.protocol.work import Outcome, Work

BLOCK_SIZE = 16
_CHUNK = 512


class Launch(StrEnum):
    """How a step's kernels are launched."""

    RAGGED = "kernel by kernel"
    CAPTURED = "captured"


def make_engine(model: PreTrainedModel, launch: Launch, *, num_tokens: int) -> PagedEngine:
    """An engine over ``model`` that holds ``num_tokens`` tokens."""
    num_blocks = -(-num_tokens // BLOCK_SIZE)
    runner = ModelRunner(model, num_slots=(num_blocks + 1) * BLOCK_SIZE)
    builder = BatchBuilder(device=model.device, block_size=BLOCK_SIZE)
    if launch is Launch.CAPTURED:
        capture = CudaGraphs() if model.device.type == "cuda" else uncaptured
        forward: Steps = CapturedSteps(runner, builder, capture).forward
    else:
        forward = run_ragged(runner, builder)
    limits = EngineLimits(
        context_len=num_tokens,
        max_chunk=_CHUNK,
        max_step_tokens=8 * _CHUNK,
        max_batch=64,
        block_size=BLOCK_SIZE,
    )
    return PagedEngine(runner, BlockPool(num_blocks), limits, forward=forward)


@dataclass(slots=True)
class Text:
    """A session of an engine: its prompt is read, ``tokens`` are what it generated."""

    session: SessionId
    prompt: list[TokenId]
    tokens: list[TokenId]

    def work(self, candidates: list[TokenId]) -> Work:
        """The next step: the last token and candidates after it."""
        text = [*self.prompt, *self.tokens]
        return _work(self.session, len(text) - 1, [text[-1], *candidates], candidates, base=len(self.tokens))


def read(engine: PagedEngine, *, num_sessions: int, num_tokens: int, seed: int = 0) -> list[Text]:
    """Sessions whose prompts of ``num_tokens`` random tokens are in the cache."""
    random = Random(seed)
    texts = []
    for _ in range(num_sessions):
        prompt = [TokenId(random.randrange(engine.vocab_size)) for _ in range(num_tokens)]
        text = Text(SessionId(random.randbytes(16)), prompt, [])
        engine.open(text.session, prompt=prompt, sampling=Sampling())
        for start in range(0, num_tokens, _CHUNK):
            engine.step([_work(text.session, start, prompt[start : start + _CHUNK], [], base=0, room=0)])
        texts.append(text)
    return texts


def close(engine: PagedEngine, texts: list[Text]) -> None:
    """End the sessions."""
    for text in texts:
        engine.close(text.session)


def step(engine: PagedEngine, texts: list[Text], *, num_tokens: int) -> list[Outcome]:
    """One step of ``num_tokens`` tokens per session; whatever it says, the sessions stay where they are."""
    candidates = [TokenId(1)] * (num_tokens - 1)
    return engine.step([text.work(candidates) for text in texts])


def _work(
    session: SessionId,
    start: int,
    fed: list[TokenId],
    candidates: list[TokenId],
    *,
    base: int,
    room: int | None = None,
) -> Work:
    return Work(
        session=session,
        epoch=Epoch(0),
        start=start,
        tokens=tuple(fed),
        num_candidates=len(candidates),
        base=Position(base),
        digest=Digest(b""),
        room=len(candidates) + 1 if room is None else room,
    )


def free(device: torch.device) -> None:
    """Give the memory of what is gone back to the device."""
    if device.type == "cuda":
        torch.cuda.empty_cache()
