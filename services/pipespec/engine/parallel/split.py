"""Which models can be split over how many ranks, told before anything is loaded.

transformers knows a plan for each family: which linear layers are cut by rows and which by columns. Attention heads are
never cut, so every rank needs a whole number of them.
"""

from __future__ import annotations

import torch
from transformers import PreTrainedConfig

from pipespec.ops.errors import ModelError


def check_split(config: PreTrainedConfig, size: int, *, device: torch.device) -> None:
    """Return if the model can run on ``size`` ranks.

    Raises:
        ModelError: its family has no plan, or its heads do not divide, or it is quantized and the ranks run on CPU.
    """
    if device.type == "cpu" and getattr(config, "quantization_config", None):
        raise ModelError(
            f"a quantized model cannot be split over {size} ranks on CPU: transformers does not shard its packed weights "
            "there; set the stage's 'tensor_parallel' to 1, or take a checkpoint that is not quantized"
        )
    text = config.get_text_config(decoder=True)
    if not text.base_model_tp_plan:
        raise ModelError(
            f"model type {text.model_type!r} has no tensor-parallel plan in transformers, so it cannot be split over "
            f"{size} ranks; set the stage's 'tensor_parallel' to 1, or choose another model"
        )
    for name in ("num_attention_heads", "num_key_value_heads"):
        number = getattr(text, name, None)
        if isinstance(number, int) and number % size:
            raise ModelError(
                f"the model has {number} {name.removeprefix('num_').replace('_', ' ')}, which {size} ranks cannot share "
                f"evenly; set the stage's 'tensor_parallel' to a divisor of {number}"
            )


def device_of_ranks(name: str, size: int) -> str:
    """``cpu`` or ``cuda``: where the ranks of a stage run, each on a GPU of its own.

    Args:
        name: as in ``StageSettings``.
        size: how many ranks there are.

    Raises:
        ModelError: there are too few GPUs, or the machine's GPUs are not to be used.
    """
    num_gpus = torch.cuda.device_count()
    if name == "cpu" and num_gpus:
        raise ModelError(
            f"device 'cpu' with tensor_parallel {size}: torch splits models over GPUs where it sees any, and it sees "
            f"{num_gpus}; hide them with CUDA_VISIBLE_DEVICES="
        )
    if name in ("cpu", "auto") and not num_gpus:
        return "cpu"
    if num_gpus < size:
        raise ModelError(
            f"device {name!r} with tensor_parallel {size} needs {size} GPUs, one for each rank; torch sees {num_gpus}"
        )
    return "cuda"
