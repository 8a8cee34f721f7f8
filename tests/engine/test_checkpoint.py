"""How long a text a model was made for."""

from __future__ import annotations

import pytest
import torch
from transformers import AutoModelForCausalLM, LlamaConfig, MambaConfig, Phi3Config

from engine.families import family_config
from pipespec.engine.checkpoint import UNBOUNDED, context_len

SMALL = {"hidden_size": 32, "num_attention_heads": 4, "num_key_value_heads": 2, "num_hidden_layers": 1}
LONG = {"rope_type": "longrope", "long_factor": [9.0] * 4, "short_factor": [1.0] * 4}


def llama(**rope: object) -> LlamaConfig:
    return LlamaConfig(
        **SMALL, vocab_size=64, max_position_embeddings=64, rope_parameters={"rope_theta": 10_000.0, **rope}
    )


@pytest.mark.parametrize("family", ["llama", "gpt2", "opt", "gpt_neox", "gemma3"])
def test_the_config_says_how_long_texts_may_be(family):
    config = family_config(family, layers=2, vocab_size=64, eos_token_id=0)
    assert context_len(config) == 512


def test_a_config_that_names_no_length_bounds_nothing():
    assert context_len(MambaConfig()) == UNBOUNDED


@pytest.mark.parametrize(
    ("rope", "expected"),
    [
        ({"rope_type": "default"}, 64),
        ({"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 16}, 64),
        ({"rope_type": "linear", "factor": 4.0}, 64),
        ({"rope_type": "dynamic", "factor": 4.0}, 64),
        ({**LONG, "original_max_position_embeddings": 16}, 16),
    ],
    ids=lambda case: case["rope_type"] if isinstance(case, dict) else None,
)
def test_embeddings_that_change_with_the_length_bound_it_where_they_begin_to(rope, expected):
    assert context_len(llama(**rope)) == expected


def test_the_older_place_of_the_original_length_counts_too():
    config = Phi3Config(
        **SMALL,
        vocab_size=64,
        pad_token_id=0,
        max_position_embeddings=64,
        original_max_position_embeddings=16,
        rope_parameters={"rope_theta": 10_000.0, **LONG},
    )
    assert context_len(config) == 16


@pytest.mark.parametrize(
    "rope",
    [
        {"rope_type": "dynamic", "factor": 4.0},
        {**LONG, "original_max_position_embeddings": 16},
        {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 16},
    ],
    ids=lambda rope: rope["rope_type"],
)
def test_within_the_context_one_text_does_not_change_with_another_s_length(rope):
    """Rotary embeddings look at the longest text of a pass."""
    config = llama(**rope)
    model = AutoModelForCausalLM.from_config(config).eval()
    end = context_len(config)
    short, long = torch.arange(4)[None], torch.arange(end)[None]
    with torch.inference_mode():
        alone = model(input_ids=short, position_ids=short, use_cache=False).logits[0]
        rows, positions = torch.cat([long, short], 1), torch.cat([long, short], 1)
        mask = torch.full((end + 4, end + 4), float("-inf")).triu(1)
        mask[end:, :end] = float("-inf")
        beside = model(
            input_ids=rows, position_ids=positions, attention_mask=mask[None, None], use_cache=False
        ).logits[0]
    torch.testing.assert_close(beside[end:], alone)
