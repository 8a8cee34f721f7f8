"""The families of causal language models: a tiny config of each, and whether the engine serves it.

Weights are drawn wide enough that every token depends on the ones before it; a test says so. Sliding windows are shorter
than any test's texts, so that their edges are crossed.
"""

from __future__ import annotations

from typing import Any

from transformers import AutoConfig, PreTrainedConfig

SLIDING_WINDOW = 8

_SIZES: dict[str, Any] = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "max_position_embeddings": 512,
    "initializer_range": 0.3,
    "bos_token_id": None,
    "pad_token_id": None,
}
_WINDOW = {"sliding_window": SLIDING_WINDOW}
_EVERY_OTHER: dict[str, Any] = {**_WINDOW, "layer_types": ["sliding_attention", "full_attention"] * 8}
_UPPER = {**_WINDOW, "use_sliding_window": True, "max_window_layers": 1}
_EXPERTS = {
    "num_experts": 4,
    "num_local_experts": 4,
    "n_routed_experts": 4,
    "num_experts_per_tok": 2,
    "moe_intermediate_size": 16,
    "n_group": 1,
    "topk_group": 1,
}
_LATENT = {
    **_EXPERTS,
    "q_lora_rank": 16,
    "kv_lora_rank": 16,
    "qk_rope_head_dim": 4,
    "qk_nope_head_dim": 8,
    "v_head_dim": 6,
    "head_dim": 4,
    "num_key_value_heads": 4,
    "first_k_dense_replace": 1,
}
_DROPPED = object()
_INDEXED = {**_LATENT, "index_topk": 8, "index_n_heads": 2, "index_head_dim": 8}

SERVED: dict[str, dict[str, Any]] = {
    "afmoe": {**_EXPERTS, "bos_token_id": 0, "pad_token_id": 0},
    "apertus": {},
    "arcee": {},
    "biogpt": {},
    "bitnet": {},
    "cohere": {},
    "cohere2": _EVERY_OTHER,
    "cwm": {**_EVERY_OTHER, "bos_token_id": 0},
    "deepseek_v2": _LATENT,
    "deepseek_v3": _LATENT,
    "ernie4_5": {},
    "ernie4_5_moe": {**_EXPERTS, "moe_num_experts": 4},
    "exaone4": _EVERY_OTHER,
    "flex_olmo": _EXPERTS,
    "gemma": {},
    "gemma2": {**_EVERY_OTHER, "query_pre_attn_scalar": 8, "attn_logit_softcapping": 2.0},
    "gemma3": {
        **_EVERY_OTHER,
        "model_type": "gemma3_text",
        "query_pre_attn_scalar": 8,
        "tie_word_embeddings": False,
    },
    "gemma3n_text": {
        **_EVERY_OTHER,
        "hidden_size_per_layer_input": 8,
        "vocab_size_per_layer_input": 64,
        "num_kv_shared_layers": 0,
    },
    "glm": {},
    "glm4": {},
    "glm4_moe": _EXPERTS,
    "gpt2": {},
    "gpt_bigcode": {},
    "gpt_neox": {},
    "gpt_oss": {**_EXPERTS, **_EVERY_OTHER},
    "granite": {},
    "granitemoe": _EXPERTS,
    "helium": {},
    "hunyuan_v1_dense": {},
    "jetmoe": {**_EXPERTS, "kv_channels": 8},
    "llama": {},
    "longcat_flash": _LATENT,
    "minimax_m2": _EXPERTS,
    "ministral": _EVERY_OTHER,
    "mistral": _WINDOW,
    "mixtral": {**_EXPERTS, **_WINDOW},
    "modernbert-decoder": {
        **_EVERY_OTHER,
        "bos_token_id": 0,
        "cls_token_id": 0,
        "pad_token_id": 0,
        "sep_token_id": 0,
        "local_attention": 2 * SLIDING_WINDOW,
    },
    "nemotron": {},
    "olmo": {},
    "olmo2": {},
    "olmo3": _EVERY_OTHER,
    "olmoe": _EXPERTS,
    "opt": {"ffn_dim": 48, "word_embed_proj_dim": 32},
    "persimmon": {},
    "phi": {},
    "phi3": _WINDOW,
    "phimoe": _EXPERTS,
    "qwen2": {},
    "qwen2_moe": {**_EXPERTS, "shared_expert_intermediate_size": 16},
    "qwen2_windowed": {**_UPPER, "model_type": "qwen2"},
    "qwen3": {},
    "qwen3_moe": _EXPERTS,
    "seed_oss": {},
    "smollm3": {},
    "stablelm": {},
    "starcoder2": _WINDOW,
    "vaultgemma": {**_EVERY_OTHER, "query_pre_attn_scalar": 8, "attn_logit_softcapping": 2.0},
}
"""What differs from the usual sizes; the model type is the key where it is not said."""

NOT_PACKED = ("longcat_flash",)
"""Served ones that look into their linear layers."""

_WITHOUT = "of its 2 layers keep keys and values"

REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "bert": ({}, "sees tokens that come later"),
    "bloom": ({}, _WITHOUT),
    "codegen": ({"rotary_dim": 4}, _WITHOUT),
    "deepseek_v32": (_INDEXED, "does not work with attention over a paged cache"),
    "diffllama": ({}, "2 of its 2 layers keep keys and values, in 4 calls"),
    "doge": ({}, "makes an attention mask of its own"),
    "falcon": ({"head_dim": _DROPPED}, _WITHOUT),
    "falcon_alibi": ({"head_dim": _DROPPED, "model_type": "falcon", "alibi": True}, _WITHOUT),
    "glm_moe_dsa": (_INDEXED, "does not work with attention over a paged cache"),
    "gpt_neo": ({"attention_types": [[["global", "local"], 1]], "window_size": 8}, _WITHOUT),
    "gptj": ({"rotary_dim": 4}, _WITHOUT),
    "jamba": ({}, _WITHOUT),
    "lfm2": ({"layer_types": ["full_attention", "conv"] * 8}, _WITHOUT),
    "llama4_text": (_EXPERTS, "layers of type chunked_attention"),
    "mamba": ({}, _WITHOUT),
    "minimax": (_EXPERTS, _WITHOUT),
    "mpt": ({"n_heads": 4, "d_model": 32}, _WITHOUT),
    "phimoe_windowed": (
        {**_EXPERTS, **_WINDOW, "model_type": "phimoe"},
        "layer 0 should see a window of 8 tokens, but it tells attention to see all",
    ),
    "qwen3_5_text": ({}, _WITHOUT),
    "qwen3_next": (_EXPERTS, _WITHOUT),
    "rwkv": ({"attention_hidden_size": 32}, _WITHOUT),
}
"""What differs from the usual sizes, and what the error says."""


def family_config(family: str, *, layers: int, vocab_size: int, eos_token_id: int) -> PreTrainedConfig:
    """A tiny config of a key of ``SERVED`` or ``REFUSED``."""
    extra = SERVED[family] if family in SERVED else REFUSED[family][0]
    sizes = {
        **_SIZES,
        "num_hidden_layers": layers,
        "vocab_size": vocab_size,
        "eos_token_id": eos_token_id,
        "model_type": family,
        **extra,
    }
    if "layer_types" in sizes:
        sizes["layer_types"] = sizes["layer_types"][:layers]
    return AutoConfig.for_model(**{name: size for name, size in sizes.items() if size is not _DROPPED})
