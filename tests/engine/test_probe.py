"""Which models are refused at load, and the cache that all others get."""

from __future__ import annotations

import pytest
import torch
from transformers import (
    AutoModelForCausalLM,
    BertConfig,
    JambaConfig,
    MambaConfig,
    PreTrainedConfig,
    RwkvConfig,
)
from transformers.cache_utils import DynamicLayer

from engine.tiny import FAMILIES, SLIDING_WINDOW, tiny_model
from pipespec.engine.kv_cache import crop, new_cache
from pipespec.engine.probe import check_rollback
from pipespec.ops.errors import ModelError

SMALL = {"vocab_size": 64, "hidden_size": 32, "num_hidden_layers": 2, "intermediate_size": 48}

REFUSED: dict[str, tuple[PreTrainedConfig, str]] = {
    "mamba": (MambaConfig(**SMALL), "folds the past into a state"),
    "jamba": (
        JambaConfig(**SMALL, num_attention_heads=4, num_key_value_heads=2),
        "folds the past into a state",
    ),
    "rwkv": (RwkvConfig(**SMALL, attention_hidden_size=32), "its cache holds 0 of 12 tokens"),
    "bert": (BertConfig(**SMALL, num_attention_heads=4), "its logits are off"),
}


@pytest.mark.parametrize("family", FAMILIES)
def test_attention_models_pass(family):
    check_rollback(tiny_model(family, layers=3))


@pytest.mark.parametrize("kind", REFUSED)
def test_models_that_cannot_be_rolled_back_are_refused(kind):
    """State outside the cache, no cache at all, or a look ahead: each is told by name."""
    config, complaint = REFUSED[kind]
    model = AutoModelForCausalLM.from_config(config).eval()
    with pytest.raises(ModelError, match=f"'{kind}' cannot be rolled back.*{complaint}"):
        check_rollback(model)


@pytest.mark.parametrize("family", ["mistral", "gemma3"])
def test_layers_with_a_sliding_window_keep_all_entries(family):
    """What has left the window must come back after a rollback."""
    model = tiny_model(family, layers=2)
    cache = new_cache(model.config)
    with torch.inference_mode():
        model(torch.ones(1, 3 * SLIDING_WINDOW, dtype=torch.long), past_key_values=cache)
    crop(cache, 2 * SLIDING_WINDOW)
    assert [type(layer) for layer in cache.layers] == [DynamicLayer] * 2
    assert [layer.keys.shape[-2] for layer in cache.layers] == [2 * SLIDING_WINDOW] * 2
