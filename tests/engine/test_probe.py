"""Which models are refused at load."""

from __future__ import annotations

import pytest
from transformers import (
    AutoModelForCausalLM,
    BertConfig,
    JambaConfig,
    MambaConfig,
    PreTrainedConfig,
    RwkvConfig,
)

from engine.tiny import FAMILIES, tiny_model
from pipespec.engine import probe
from pipespec.engine.runner import ModelRunner
from pipespec.ops.errors import ModelError

SMALL = {"vocab_size": 64, "hidden_size": 32, "num_hidden_layers": 2, "intermediate_size": 48}

REFUSED: dict[str, tuple[PreTrainedConfig, str]] = {
    "mamba": (MambaConfig(**SMALL), "0 of its 2 layers keep keys and values"),
    "jamba": (
        JambaConfig(**SMALL, num_attention_heads=4, num_key_value_heads=2),
        "0 of its 2 layers keep keys and values",
    ),
    "rwkv": (RwkvConfig(**SMALL, attention_hidden_size=32), "0 of its 2 layers keep keys and values"),
    "bert": (BertConfig(**SMALL, num_attention_heads=4), "its logits are off"),
}


def probed(model):
    ordinary = probe.ordinary_logits(model)
    probe.check(ModelRunner(model, num_slots=probe.NUM_SLOTS), ordinary)


@pytest.mark.parametrize("family", FAMILIES)
def test_attention_models_pass(family):
    probed(tiny_model(family, layers=3))


@pytest.mark.parametrize("kind", REFUSED)
def test_other_models_are_refused_by_name(kind):
    """State outside the cache, no attention at all, or a look ahead."""
    config, complaint = REFUSED[kind]
    model = AutoModelForCausalLM.from_config(config).eval()
    with pytest.raises(ModelError, match=f"'{kind}'.*{complaint}"):
        probed(model)
