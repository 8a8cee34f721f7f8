"""A test at load: whether a model's past can be cut back and fed again with the same result.

Some families keep state outside the cache, ignore it, look ahead, or misplace positions after a cut. They would be
silently wrong under speculation, so a model that fails here is refused before it serves anyone.
"""

from __future__ import annotations

import torch
from transformers import PreTrainedModel

from pipespec.engine.checkpoint import vocab_size
from pipespec.engine.kv_cache import crop, new_cache
from pipespec.ops.errors import ModelError

_TEXT_LEN = 12
_CUT = 5
_TOLERANCE = 1e-3
_TOLERANCE_HALF = 0.1
"""Greatest root mean square error of the logits, relative to their spread, in float32 and in 16-bit types."""


@torch.inference_mode()
def check_rollback(model: PreTrainedModel) -> None:
    """Feed a text at once, then again after a detour that is rolled back, and compare.

    Raises:
        ModelError: the model cannot be rolled back.
    """
    kind = model.config.model_type
    try:
        whole, again, cached = _with_and_without_detour(model)
    except (
        AttributeError,
        IndexError,
        KeyError,
        NotImplementedError,
        RuntimeError,
        TypeError,
        ValueError,
    ) as error:
        raise ModelError(
            f"model type {kind!r} does not work with a cache that is rolled back: {error}"
        ) from error
    tolerance = _TOLERANCE if model.dtype == torch.float32 else _TOLERANCE_HALF
    off_by = ((whole - again).square().mean().sqrt() / whole.std()).item()
    if cached != _TEXT_LEN or not off_by <= tolerance:
        raise ModelError(
            f"model type {kind!r} cannot be rolled back: after a cut its logits are off by {off_by:.3g} of their spread "
            f"(allowed: {tolerance}), its cache holds {cached} of {_TEXT_LEN} tokens"
        )


def _with_and_without_detour(model: PreTrainedModel) -> tuple[torch.Tensor, torch.Tensor, int]:
    """Float32 logits ``[_TEXT_LEN - _CUT, V]`` of both ways, and the cache's length after the second."""
    num_ids = vocab_size(model)
    ids = torch.tensor([[(7 * i + 3) % num_ids for i in range(_TEXT_LEN)]], device=model.device)
    detour = (ids[:, _CUT:] + 1) % num_ids
    whole = model(input_ids=ids, use_cache=False).logits[0, _CUT:].float()
    cache = new_cache(model.config)
    model(input_ids=ids[:, :_CUT], past_key_values=cache, use_cache=True)
    model(input_ids=detour, past_key_values=cache, use_cache=True)
    crop(cache, _CUT)
    again = [
        model(input_ids=piece, past_key_values=cache, use_cache=True).logits[0].float()
        for piece in (
            ids[:, _CUT : _CUT + 4],
            ids[:, _CUT + 4 :],
        )  # in pieces: a model that looks ahead gives itself away
    ]
    return whole, torch.cat(again), cache.get_seq_length()
