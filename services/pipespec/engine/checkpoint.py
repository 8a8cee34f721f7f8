"""Loads a Hugging Face model from a folder: device, dtype, threads, and what is refused.

Only safetensors are read and only code of the installed transformers runs: never pickles, never a repository's own
Python files. A checkpoint that lacks a tensor is refused; transformers would fill it with random numbers.
"""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from transformers import AutoModelForCausalLM, PreTrainedConfig, PreTrainedModel
from transformers.utils import logging

from pipespec.ops.errors import ModelError

UNBOUNDED = 2**31 - 1
"""Context length of a model that names none, such as one with relative positions."""

_LENGTH_DEPENDENT = ("dynamic", "longrope")
_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def set_threads(threads: int) -> None:
    """Bound torch's compute threads in this process."""
    torch.set_num_threads(threads)
    # Can be set once per process, before the first parallel work; a second engine in a process shares the first's.
    with contextlib.suppress(RuntimeError):
        torch.set_num_interop_threads(threads)


def load_model(folder: Path, *, device: str, dtype: str) -> PreTrainedModel:
    """A model in evaluation mode.

    Args:
        folder: ``config.json`` and ``*.safetensors``.
        device: as in ``StageSettings``; ``auto`` takes a GPU where there is one.
        dtype: as in ``StageSettings``; ``auto`` is float32 on CPU, the checkpoint's own on GPU.

    Raises:
        ModelError: the device is not there, or the model cannot be loaded whole.
    """
    place = _device(device)
    logging.disable_progress_bar()  # a service writes logs, not bars
    try:
        loaded: Any = AutoModelForCausalLM.from_pretrained(
            folder,
            dtype=_dtype(dtype, place),
            device_map={"": place},
            use_safetensors=True,
            trust_remote_code=False,
            local_files_only=True,
            output_loading_info=True,
        )
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
        raise ModelError(f"cannot load the model in {folder}: {error}") from error
    model: PreTrainedModel
    model, report = loaded
    lacking = sorted(str(key) for key in (*report["missing_keys"], *report["mismatched_keys"]))
    if lacking:
        raise ModelError(
            f"the checkpoint in {folder} lacks {len(lacking)} of the model's tensors, or has them in other shapes: "
            f"{', '.join(lacking[:3])}"
        )
    model.eval()
    return model


def vocab_size(model: PreTrainedModel) -> int:
    """Rows of the input embedding: ids that the model can read are below it. May exceed the tokenizer's."""
    weight = model.get_input_embeddings().weight
    if not isinstance(weight, torch.Tensor):
        raise ModelError(f"model type {model.config.model_type!r} has no table of input embeddings")
    return weight.shape[0]


def context_len(config: PreTrainedConfig) -> int:
    """Tokens that the model was made for.

    Rotary embeddings that change with the length of the text end where they would begin to: one session's length must
    not change what another one in the same pass says, nor what is cached already.
    """
    text = config.get_text_config(decoder=True)
    rope = getattr(text, "rope_parameters", None) or {}
    ropes = [
        one for one in (rope, *rope.values()) if isinstance(one, dict)
    ]  # for all layers, or per type of layer
    ends = [
        r.get("original_max_position_embeddings") for r in ropes if r.get("rope_type") in _LENGTH_DEPENDENT
    ]
    lengths = [getattr(text, "max_position_embeddings", None), *ends]
    return min((one for one in lengths if isinstance(one, int) and one > 0), default=UNBOUNDED)


def _device(name: str) -> torch.device:
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise ModelError(f"device {name!r} is unknown; expected auto, cpu, cuda or cuda:N") from error
    if device.type == "cuda" and not torch.cuda.is_available():
        raise ModelError(f"device {name!r}: this machine or this build of torch has no CUDA; use cpu or auto")
    return device


def _dtype(name: str, device: torch.device) -> torch.dtype | str:
    if name == "auto":
        return torch.float32 if device.type == "cpu" else "auto"
    return _DTYPES[name]
