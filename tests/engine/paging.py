"""Engines over tiny models, with pools as small as a test wants them."""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy

import torch
from transformers import PreTrainedModel

from pipespec.engine.blocks import BlockPool
from pipespec.engine.packed_linear import MIN_ROWS, pack_linears
from pipespec.engine.paged import EngineLimits, PagedEngine
from pipespec.engine.runner import ModelRunner
from pipespec.engine.sampler import PickRequest, pick_all
from pipespec.protocol.ids import Position, TokenId
from pipespec.protocol.sampling import Sampling


def paged_engine(
    model: PreTrainedModel,
    *,
    num_blocks: int = 256,
    block_size: int = 4,
    context_len: int = 256,
    max_chunk: int = 64,
    packed: bool = True,
) -> PagedEngine:
    """An engine over a copy of ``model``, which stays as it is: the copy's layers are replaced."""
    model = deepcopy(model)
    if packed:
        pack_linears(model)
    runner = ModelRunner(model, num_slots=(num_blocks + 1) * block_size)
    limits = EngineLimits(
        context_len=context_len,
        max_chunk=max_chunk,
        max_step_tokens=8 * max_chunk,
        max_batch=64,
        block_size=block_size,
    )
    return PagedEngine(runner, BlockPool(num_blocks), limits, min_rows=MIN_ROWS if packed else 1)


def pick(
    logits: torch.Tensor,
    *,
    base: Position,
    prompt: Sequence[TokenId],
    generated: Sequence[TokenId],
    sampling: Sampling,
) -> list[TokenId]:
    """Choose one token per row of one session's logits."""
    request = PickRequest(logits.shape[0], base, prompt, generated, sampling)
    return pick_all(logits, [request])[0]
