"""Tiny random models: real architectures of transformers with a few thousand seeded weights.

In memory for engine tests, or saved as a model folder with a working byte-level tokenizer for tests end to end.
"""

from __future__ import annotations

import json
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, PreTrainedModel

from engine.families import family_config
from pipespec.emulation.vocabulary import CHAT_TEMPLATE, SPECIAL, VOCAB_SIZE, byte_tokenizer

EOS_ID = SPECIAL.index("<|im_end|>")
BYTE_VOCAB = VOCAB_SIZE

FAMILIES = ("llama", "qwen2", "gpt2", "mistral", "gemma3")
"""One of each kind of attention: plain, with biases, with learned positions, with a window in all or in every other layer.
All families are in ``engine.families``."""


def tiny_model(
    family: str = "llama", *, seed: int = 0, layers: int = 2, vocab_size: int = 64
) -> PreTrainedModel:
    """A random model in evaluation mode, float32 on CPU; equal arguments give equal weights."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        config = family_config(family, layers=layers, vocab_size=vocab_size, eos_token_id=EOS_ID)
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
        family: a key of ``engine.families.SERVED``.
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
        "chat_template": CHAT_TEMPLATE,
        "model_max_length": 512,
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(described), encoding="utf-8")
    return folder


def _perturb(model: PreTrainedModel, *, noise: float, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for weight in model.parameters():
            if weight.ndim > 1:  # norms are all ones: they have no spread to scale by
                weight.add_(noise * weight.std() * torch.randn(weight.shape, generator=generator))
