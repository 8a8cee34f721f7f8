"""Converts a GGUF file to Hugging Face's layout; run as ``python -m pipespec.engine.convert IN.gguf OUT``.

Weights are dequantized to float32 safetensors, the vocabulary becomes ``tokenizer.json``. Standard output carries
one JSON object per line, ``{"stage", "fraction"}``, and ``{"error"}`` before a failing exit; ``models.conversion``
reads it. The output folder is complete only when the process ends with 0.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

import torch
from gguf import GGUFReader
from tokenizers import pre_tokenizers
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    GenerationConfig,
    PreTrainedConfig,
    PreTrainedTokenizerFast,
)
from transformers.utils import logging

from pipespec.ops.errors import ModelError

Progress = Callable[[str, float], None]

_UNLIMITED = 10**9
"""A tokenizer's ``model_max_length`` above this means that the file names none."""


def convert_gguf(gguf: Path, out: Path, *, on_progress: Progress) -> None:
    """Write the model of a GGUF file into the existing, empty folder ``out``.

    Raises:
        ModelError: the file is not a GGUF file that transformers can read as a causal language model.
    """
    try:
        on_progress("reading the tokenizer", 0.0)
        tokenizer = AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name)
        on_progress("reading the weights", 0.4)
        model = AutoModelForCausalLM.from_pretrained(gguf.parent, gguf_file=gguf.name, dtype=torch.float32)
    except Exception as error:  # what a foreign file makes its readers raise has no common root
        raise ModelError(f"transformers cannot read {gguf.name}: {error}") from error
    config = model.config
    # The loaded model counts as quantized and refuses to be saved, though its weights are plain float32 by now.
    del config.quantization_config
    on_progress("writing the weights", 0.8)
    plain = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    plain.load_state_dict(model.state_dict())
    plain.generation_config = _generation_config(config)
    plain.save_pretrained(out)
    for file in out.glob("*.safetensors"):
        file.chmod(0o644)  # safetensors writes them for the owner alone, the rest of the folder is for all
    on_progress("writing the tokenizer", 0.95)
    if isinstance(tokenizer, PreTrainedTokenizerFast):
        _restore_pre_tokenizer(tokenizer, gguf)
    if tokenizer.model_max_length > _UNLIMITED:
        tokenizer.model_max_length = config.max_position_embeddings
    tokenizer.save_pretrained(out, save_jinja_files=False)
    on_progress("done", 1.0)


def _generation_config(config: PreTrainedConfig) -> GenerationConfig:
    return GenerationConfig(
        bos_token_id=config.bos_token_id, eos_token_id=config.eos_token_id, pad_token_id=config.pad_token_id
    )


def _restore_pre_tokenizer(tokenizer: PreTrainedTokenizerFast, gguf: Path) -> None:
    """Split text as the original tokenizer did, where transformers' GGUF reader drops the rule.

    A GGUF file names its rule (``tokenizer.ggml.pre``); ``smollm`` splits every digit off before byte-level BPE.
    """
    field = GGUFReader(gguf).get_field("tokenizer.ggml.pre")
    if field is not None and field.contents() == "smollm":
        tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
            [
                pre_tokenizers.Digits(individual_digits=True),
                pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True),
            ]
        )


def main() -> None:
    """Convert ``argv[1]`` into ``argv[2]`` and report on standard output."""
    gguf, out = Path(sys.argv[1]), Path(sys.argv[2])
    torch.set_num_threads(1)
    logging.disable_progress_bar()

    def report(**fields: object) -> None:
        sys.stdout.write(json.dumps(fields) + "\n")
        sys.stdout.flush()

    try:
        convert_gguf(gguf, out, on_progress=lambda stage, fraction: report(stage=stage, fraction=fraction))
    except ModelError as error:
        report(error=str(error))
        sys.exit(1)


if __name__ == "__main__":
    main()
