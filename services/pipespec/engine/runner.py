"""Runs forward passes of a model over the pool.

The model is any of transformers' with our attention function set; the cache is the pool, so transformers' own is off.
"""

from __future__ import annotations

import inspect

import torch
from transformers import PreTrainedModel

from pipespec.engine.attention import NAME, ForwardPass, running
from pipespec.engine.kv_pool import KeyValuePool
from pipespec.engine.ragged import RaggedBatch


class ModelRunner:
    """A model with its pool.

    Args:
        model: in evaluation mode, on its device; from now on it attends through the pool.
        num_slots: of the pool.
    """

    def __init__(self, model: PreTrainedModel, *, num_slots: int) -> None:
        self.model = model
        self.pool = KeyValuePool(num_slots)
        model.set_attn_implementation(NAME)
        self._keeps_logits = "logits_to_keep" in inspect.signature(model.forward).parameters

    def resize(self, num_slots: int) -> None:
        """Begin with an empty pool of another size."""
        self.pool = KeyValuePool(num_slots)

    def forward(self, batch: RaggedBatch) -> torch.Tensor:
        """Logits ``[R, V]`` of ``batch.logit_rows``."""
        return self.run(batch)[0]

    def run(self, batch: RaggedBatch) -> tuple[torch.Tensor, ForwardPass]:
        """Logits ``[R, V]``, and what the pass left behind."""
        forward = ForwardPass(batch, self.pool)
        token = running.set(forward)
        try:
            keep = {"logits_to_keep": batch.logit_rows} if self._keeps_logits else {}
            output = self.model(
                input_ids=batch.input_ids, position_ids=batch.position_ids, use_cache=False, **keep
            )
        finally:
            running.reset(token)
        logits: torch.Tensor = output.logits[0]
        return logits if self._keeps_logits else logits[batch.logit_rows], forward
