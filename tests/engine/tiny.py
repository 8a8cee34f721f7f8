"""Tiny random models: real architectures of transformers with a few thousand seeded weights.

In memory for engine tests, or saved as a model folder with a working byte-level tokenizer for tests end to end.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
from transformers import (
    AutoModelForCausalLM,
    Gemma3TextConfig,
    GPT2Config,
    LlamaConfig,
    MistralConfig,
    PreTrainedConfig,
    PreTrainedModel,
    Qwen2Config,
)

SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
EOS_ID = SPECIAL.index("<|im_end|>")
BYTE_VOCAB = len(SPECIAL) + 256
SLIDING_WINDOW = 8

_CHAT_TEMPLATE = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


def _sizes(layers: int, vocab_size: int, **extra: Any) -> dict[str, Any]:
    return {
        "vocab_size": vocab_size,
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": layers,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 8,
        "max_position_embeddings": 512,
        "initializer_range": 0.3,
        "bos_token_id": None,
        "eos_token_id": EOS_ID,
        "pad_token_id": None,
        **extra,
    }


def _gpt2(layers: int, vocab_size: int) -> PreTrainedConfig:
    return GPT2Config(
        vocab_size=vocab_size,
        n_embd=32,
        n_layer=layers,
        n_head=4,
        n_positions=512,
        initializer_range=0.3,
        bos_token_id=None,
        eos_token_id=EOS_ID,
    )


FAMILIES: dict[str, Callable[[int, int], PreTrainedConfig]] = {
    "llama": lambda layers, vocab: LlamaConfig(**_sizes(layers, vocab)),
    "qwen2": lambda layers, vocab: Qwen2Config(**_sizes(layers, vocab)),
    "gpt2": _gpt2,
    "mistral": lambda layers, vocab: MistralConfig(**_sizes(layers, vocab, sliding_window=SLIDING_WINDOW)),
    "gemma3": lambda layers, vocab: Gemma3TextConfig(
        **_sizes(
            layers, vocab, sliding_window=SLIDING_WINDOW, query_pre_attn_scalar=8, tie_word_embeddings=False
        ),
        layer_types=["sliding_attention", "full_attention"] * (layers // 2)
        + ["sliding_attention"] * (layers % 2),
    ),
}
"""Mistral's layers all have a sliding window, every other one of gemma3's has."""


def tiny_model(
    family: str = "llama", *, seed: int = 0, layers: int = 2, vocab_size: int = 64
) -> PreTrainedModel:
    """A random model in evaluation mode, float32 on CPU; equal arguments give equal weights."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        config = FAMILIES[family](layers, vocab_size)
        model: PreTrainedModel = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    model.eval()
    return model


def save_tiny_model(
    folder: Path,
    *,
    seed: int,
    layers: int = 2,
    vocab_size: int = BYTE_VOCAB,
    family: str = "llama",
    agree_with: Path | None = None,
    noise: float = 0.0,
) -> Path:
    """Write a model folder with a byte-level tokenizer, and return it.

    Args:
        folder: created.
        seed: of the weights, or of the perturbation.
        layers: decoder layers.
        vocab_size: at least ``BYTE_VOCAB``; ids beyond the tokenizer's have no text, as in padded vocabularies.
        family: a key of ``FAMILIES``.
        agree_with: another folder of this function; the new model is a copy of it, perturbed.
        noise: standard deviation of the perturbation, relative to that of each tensor. Share of equal greedy picks:
            0 all, 0.02 about 80 %, 0.05 60 %, 0.1 35 %, 0.4 3 %.
    """
    if agree_with is None:
        model = tiny_model(family, seed=seed, layers=layers, vocab_size=vocab_size)
    else:
        model = AutoModelForCausalLM.from_pretrained(agree_with, dtype=torch.float32)
        _perturb(model, noise=noise, seed=seed)
    folder.mkdir(parents=True, exist_ok=True)
    model.save_pretrained(folder)
    byte_tokenizer().save(str(folder / "tokenizer.json"))
    described = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "eos_token": SPECIAL[EOS_ID],
        "chat_template": _CHAT_TEMPLATE,
        "model_max_length": 512,
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(described), encoding="utf-8")
    return folder


def byte_tokenizer() -> Tokenizer:
    """One token per byte after the special ones: ``BYTE_VOCAB`` ids, any text round-trips."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: index for index, token in enumerate((*SPECIAL, *alphabet))}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in SPECIAL])
    return tokenizer


def _perturb(model: PreTrainedModel, *, noise: float, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for weight in model.parameters():
            if weight.ndim > 1:  # norms are all ones: they have no spread to scale by
                weight.add_(noise * weight.std() * torch.randn(weight.shape, generator=generator))
