"""Engines over tiny models, with pools as small as a test wants them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from copy import deepcopy

import torch
from transformers import PreTrainedModel

from pipespec.engine.assembly import run_ragged
from pipespec.engine.batch_builder import BatchBuilder
from pipespec.engine.blocks import BlockPool
from pipespec.engine.captured import CapturedSteps, uncaptured
from pipespec.engine.fused_norm import fuse_norms
from pipespec.engine.packed_linear import filled, noted_inputs, pack_linears
from pipespec.engine.paged import EngineLimits, PagedEngine
from pipespec.engine.runner import ModelRunner
from pipespec.engine.sampler import PickRequest
from pipespec.engine.sampler import pick as pick_rows
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
    shaped: bool = False,
) -> PagedEngine:
    """An engine over a copy of ``model``, which stays as it is: the copy's layers are replaced.

    ``shaped`` runs short steps in the fixed shapes that a GPU captures.
    """
    return engine_over(
        runner_of(model, packed=packed),
        num_blocks=num_blocks,
        block_size=block_size,
        context_len=context_len,
        max_chunk=max_chunk,
        fill=filled if packed else int,
        shaped=shaped,
    )


def runner_of(model: PreTrainedModel, *, packed: bool = True) -> ModelRunner:
    """A runner of a copy of ``model``, without a pool to speak of."""
    model = deepcopy(model)
    if packed:
        with noted_inputs(model) as inputs:
            model(input_ids=torch.tensor([[1, 2]]), use_cache=False)
        pack_linears(model, inputs)
        fuse_norms(model)
    return ModelRunner(model, num_slots=1)


def engine_over(
    runner: ModelRunner,
    *,
    num_blocks: int,
    block_size: int,
    context_len: int,
    max_chunk: int,
    fill: Callable[[int], int] = filled,
    shaped: bool = False,
) -> PagedEngine:
    """A fresh engine over a runner whose earlier engines are used no longer."""
    runner.resize((num_blocks + 1) * block_size)
    limits = EngineLimits(
        context_len=context_len,
        max_chunk=max_chunk,
        max_step_tokens=8 * max_chunk,
        max_batch=64,
        block_size=block_size,
    )
    builder = BatchBuilder(device=runner.model.device, block_size=block_size, fill=fill)
    forward = CapturedSteps(runner, builder, uncaptured).forward if shaped else run_ragged(runner, builder)
    return PagedEngine(runner, BlockPool(num_blocks), limits, forward=forward)


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
    return [TokenId(token) for token in pick_rows(logits, [request]).tolist()]
