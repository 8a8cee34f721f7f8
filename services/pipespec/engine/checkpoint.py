"""Loads a Hugging Face model from a folder: device, dtype, threads, and what is refused.

Only safetensors are read and only code of the installed transformers runs: never pickles, never a repository's own
Python files. A checkpoint that lacks a tensor is refused; transformers would fill it with random numbers.
"""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

import torch
from huggingface_hub.errors import StrictDataclassError
from safetensors import SafetensorError
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedConfig, PreTrainedModel
from transformers.distributed.configuration_utils import DistributedConfig
from transformers.utils import logging

from pipespec.engine.parallel.group import RankGroup
from pipespec.engine.parallel.split import check_split
from pipespec.ops.errors import ModelError

UNBOUNDED = 2**31 - 1
"""Context length of a model that names none, such as one with relative positions."""

_LENGTH_DEPENDENT = ("dynamic", "longrope")
_UNREADABLE = (
    OSError,
    ValueError,
    KeyError,
    TypeError,
    RuntimeError,
    ImportError,
    SafetensorError,
    StrictDataclassError,
)
"""What transformers raises for files that are missing, damaged, or not what they should be."""
_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def set_threads(threads: int) -> None:
    """Bound torch's compute threads in this process."""
    torch.set_num_threads(threads)
    # Can be set once per process, before the first parallel work; a second engine in a process shares the first's.
    with contextlib.suppress(RuntimeError):
        torch.set_num_interop_threads(threads)


def load_model(folder: Path, *, device: str, dtype: str, ranks: RankGroup | None = None) -> PreTrainedModel:
    """A model in evaluation mode.

    Args:
        folder: ``config.json`` and ``*.safetensors``.
        device: as in ``StageSettings``; ``auto`` takes a GPU where there is one.
        dtype: as in ``StageSettings``; ``auto`` is float32 on CPU, the checkpoint's own on GPU.
        ranks: each gets its share of the model, on its own device; returns on all of them at once.

    Raises:
        ModelError: the device is not there, or the model cannot be loaded whole, or not be split.
    """
    place = _device(device)
    logging.disable_progress_bar()  # a service writes logs, not bars
    try:
        loaded: Any = AutoModelForCausalLM.from_pretrained(
            folder,
            dtype=_dtype(dtype, place),
            **_placement(folder, place, ranks),
            use_safetensors=True,
            trust_remote_code=False,
            local_files_only=True,
            output_loading_info=True,
        )
    except _UNREADABLE as error:
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
    if ranks is not None:
        ranks.meet()  # the first forward pass waits no longer than any other
    return model


def _placement(folder: Path, place: torch.device, ranks: RankGroup | None) -> dict[str, Any]:
    """What tells ``from_pretrained`` where the weights go."""
    if ranks is None:
        return {"device_map": {"": place}}
    config = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    check_split(config, ranks.size, device=place)
    return {"distributed_config": DistributedConfig(tp_size=ranks.size)}


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
    device = torch.device(name)
    if device.type == "cuda" and not torch.cuda.is_available():
        raise ModelError(f"device {name!r}: this machine or this build of torch has no CUDA; use cpu or auto")
    return device


def _dtype(name: str, device: torch.device) -> torch.dtype | str:
    if name == "auto":
        return torch.float32 if device.type == "cpu" else "auto"
    return _DTYPES[name]
