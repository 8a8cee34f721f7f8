"""The least time that a step can take: every weight and every key and value read once, at the bandwidth that is there."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from time import perf_counter

import torch
from transformers import PreTrainedModel

_COPY_BYTES = {"cuda": 2**31, "cpu": 2**27}


def bandwidth(device: torch.device) -> float:
    """Bytes per second of a large copy within the device, counting those read and those written."""
    source = torch.randint(0, 255, (_COPY_BYTES[device.type],), dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    return 2 * source.numel() / median_s(lambda: target.copy_(source), device=device)


def bytes_of_weights(model: PreTrainedModel) -> int:
    """What a step reads of the model: all weights but the table of input embeddings, of which it reads a few rows."""
    table = next(model.get_input_embeddings().parameters())
    weights = {id(weight): weight for weight in model.parameters()}
    total = sum(weight.numel() * weight.element_size() for weight in weights.values())
    is_read_whole = model.config.tie_word_embeddings  # as the LM head
    return total - (0 if is_read_whole else table.numel() * table.element_size())


def bytes_of_token(model: PreTrainedModel) -> int:
    """What a step reads of a token in the cache: its keys and values in every layer, of a Llama."""
    config = model.config.get_text_config(decoder=True)
    num_bytes: int = (
        2 * config.num_hidden_layers * config.num_key_value_heads * config.head_dim * model.dtype.itemsize
    )
    return num_bytes


def median_s(run: Callable[[], object], *, device: torch.device, repeats: int = 15) -> float:
    """Median seconds of a run on an otherwise idle device, after three to warm up."""
    for _ in range(3):
        run()
    times = []
    for _ in range(repeats):
        wait(device)
        started = perf_counter()
        run()
        wait(device)
        times.append(perf_counter() - started)
    return statistics.median(times)


def wait(device: torch.device) -> None:
    """Until the device has done everything it was asked."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
