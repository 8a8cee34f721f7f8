"""A test at load: whether a model's past can be cut back and fed again with the same result.

Some families keep state outside the cache, ignore it, or misplace positions after a cut. They would be silently wrong
under speculation, so a model that fails here is refused before it serves anyone.
"""

from __future__ import annotations

import torch
from transformers import PreTrainedModel

from pipespec.engine.checkpoint import vocab_size
from pipespec.engine.kv_cache import crop, new_cache
from pipespec.ops.errors import ModelError

_TEXT_LEN = 12
_CUT = 5
_TOLERANCE = 0.02
"""Greatest accepted change of a probability; bfloat16 stays well below, a lost past is far above."""


@torch.inference_mode()
def check_rollback(model: PreTrainedModel) -> None:
    """Feed a text at once, then again after a detour that is rolled back, and compare.

    Raises:
        ModelError: the model cannot be rolled back.
    """
    num_ids = vocab_size(model)
    ids = torch.tensor([[(7 * i + 3) % num_ids for i in range(_TEXT_LEN)]], device=model.device)
    detour = (ids[:, _CUT:] + 1) % num_ids
    kind = model.config.model_type
    try:
        whole = model(input_ids=ids, use_cache=False).logits
        cache = new_cache(model.config)
        model(input_ids=ids[:, :_CUT], past_key_values=cache, use_cache=True)
        model(input_ids=detour, past_key_values=cache, use_cache=True)
        crop(cache, _CUT)
        again = model(input_ids=ids[:, _CUT:], past_key_values=cache, use_cache=True).logits
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
    change = (whole[:, _CUT:].float().softmax(-1) - again.float().softmax(-1)).abs().max().item()
    if cache.get_seq_length() != _TEXT_LEN or not change <= _TOLERANCE:
        raise ModelError(
            f"model type {kind!r} cannot be rolled back: after a cut its probabilities differ by {change:.3g} "
            f"(allowed: {_TOLERANCE}), its cache holds {cache.get_seq_length()} of {_TEXT_LEN} tokens"
        )
