"""A session's key-value cache that can be cut back to any earlier length.

transformers' own cache drops what has left a sliding window, so a rollback could not restore it; here every attention
layer keeps all its entries, and the model's mask leaves out what lies beyond the window. Layers that fold the past
into a state (Mamba, RWKV, linear attention) cannot be cut back: such models are refused.
"""

from __future__ import annotations

from transformers import DynamicCache, PreTrainedConfig
from transformers.cache_utils import DummyLayer, DynamicIndexedLayer, DynamicLayer, DynamicSlidingWindowLayer

from pipespec.ops.errors import ModelError

_CROPPABLE = (DynamicLayer, DynamicIndexedLayer, DummyLayer)


def new_cache(config: PreTrainedConfig) -> DynamicCache:
    """An empty cache in which every layer keeps all entries.

    Raises:
        ModelError: a layer of this model cannot be cut back.
    """
    cache = DynamicCache(config=config)
    for index, layer in enumerate(cache.layers):
        if type(layer) is DynamicSlidingWindowLayer:
            cache.layers[index] = DynamicLayer()
        elif type(layer) not in _CROPPABLE:
            raise ModelError(
                f"model type {config.model_type!r} cannot be rolled back: its layer {index} keeps a "
                f"{type(layer).__name__}, which folds the past into a state; choose a model with plain attention"
            )
    return cache


def crop(cache: DynamicCache, length: int) -> None:
    """Cut the cache back to its first ``length`` entries; ``length`` is at most what it holds."""
    surplus = cache.get_seq_length() - length
    if surplus > 0:
        cache.crop(-surplus)
