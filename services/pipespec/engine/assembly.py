"""Puts an engine together around a loaded model: probe, packed weights, a pool of the right size."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import structlog
import torch
from transformers import PreTrainedModel

from pipespec.engine import checkpoint, pool_size, probe
from pipespec.engine.batch_builder import BatchBuilder, Share
from pipespec.engine.blocks import BlockPool
from pipespec.engine.captured import CapturedSteps, CudaGraphs
from pipespec.engine.fused_norm import fuse_norms
from pipespec.engine.packed_linear import filled, noted_inputs, pack_linears
from pipespec.engine.paged import EngineLimits, PagedEngine
from pipespec.engine.runner import ModelRunner
from pipespec.ops.errors import ModelError
from pipespec.ops.pipeline import StageSettings

log = structlog.get_logger(__name__)

BLOCK_SIZE = 16

Steps = Callable[[Sequence[Share]], torch.Tensor]


def assemble_engine(
    load: Callable[[], PreTrainedModel],
    settings: StageSettings,
    *,
    agree: Callable[[int], int] = int,
) -> PagedEngine:
    """An engine that is ready to step.

    Args:
        load: gives the model in evaluation mode, on its device; linear layers and attention of it are replaced. Called
            again where a family does not bear the former.
        settings: of the stage.
        agree: makes the number of blocks the same on all ranks of a sharded model.

    Raises:
        ModelError: the model fails the probe, or there is no room for its cache.
    """
    runner, fill = _probed(load)
    device, context_len = runner.model.device, checkpoint.context_len(runner.model.config)
    demand = pool_size.Demand(
        bytes_per_token=runner.pool.bytes_per_slot,
        block_size=BLOCK_SIZE,
        context_len=context_len,
        max_sessions=settings.max_sessions,
    )
    num_blocks = agree(pool_size.num_blocks(demand, device=device, cache_gib=settings.cache_gib))
    runner.resize((num_blocks + 1) * BLOCK_SIZE)
    capacity = num_blocks * BLOCK_SIZE
    if capacity < context_len:
        log.warning(
            "engine.context_bounded",
            tokens=capacity,
            model_takes=context_len,
            advice="the cache holds no more; free memory, or raise the stage's 'cache_gib'",
        )
    limits = EngineLimits(
        context_len=min(context_len, capacity),
        max_chunk=min(settings.prefill_chunk, settings.step_tokens),
        max_step_tokens=settings.step_tokens,
        max_batch=settings.max_batch,
        block_size=BLOCK_SIZE,
    )
    builder = BatchBuilder(device=device, block_size=BLOCK_SIZE, fill=fill)
    return PagedEngine(runner, BlockPool(num_blocks), limits, forward=_steps(runner, builder))


def _steps(runner: ModelRunner, builder: BatchBuilder) -> Steps:
    """How the steps of an engine run on the model's device. What ranks say to each other is not captured."""
    if runner.model.device.type == "cuda" and runner.model.tp_size is None:
        return CapturedSteps(runner, builder, CudaGraphs()).forward
    return run_ragged(runner, builder)


def run_ragged(runner: ModelRunner, builder: BatchBuilder) -> Steps:
    """Steps as ragged batches, launched kernel by kernel."""
    return lambda shares: runner.forward(builder.build(shares))


def _probed(load: Callable[[], PreTrainedModel]) -> tuple[ModelRunner, Callable[[int], int]]:
    """A runner whose model has passed the probe as it now is, and how many rows a number of rows is filled up to."""
    model = load()
    with noted_inputs(model) as inputs:
        ordinary = probe.ordinary_logits(model)
    runner = ModelRunner(model, num_slots=probe.NUM_SLOTS)
    probe.check(runner, ordinary)
    num_packed = pack_linears(model, inputs)
    del inputs  # with the layers that were replaced
    if num_packed == 0:
        return runner, int
    fuse_norms(model)
    try:
        probe.check(runner, ordinary)
    except ModelError as error:  # it looks into its linear layers
        reason = str(error)
    else:
        return runner, filled
    log.warning("engine.not_packed", reason=reason, advice="it runs, slower on CPU than it might")
    del model, runner  # never two of them at once
    runner = ModelRunner(load(), num_slots=probe.NUM_SLOTS)
    probe.check(runner, ordinary)
    return runner, int
