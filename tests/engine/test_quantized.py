"""Quantized checkpoints load as transformers loads them, and run under the engine's schedules."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from engine.schedule import Script, run_interleaved
from engine.tiny import BYTE_VOCAB, save_tiny_model
from pipespec.engine.load import load_engine
from pipespec.ops.errors import ModelError
from pipespec.ops.pipeline import StageSettings
from pipespec.protocol.sampling import Sampling

Tensors = dict[str, torch.Tensor]
FP8_MAX, INT4_MAX, PER_INT32 = 448.0, 7.0, 8


def fp8(weight: torch.Tensor) -> Tensors:
    """``fp8`` of transformers: one scale per block of 128 by 128."""
    scale = weight.abs().max() / FP8_MAX
    return {"weight": (weight / scale).to(torch.float8_e4m3fn), "weight_scale_inv": scale.reshape(1, 1)}


def int4(weight: torch.Tensor) -> Tensors:
    """``pack-quantized`` of compressed-tensors: eight values to an int32, the first lowest; one scale per row."""
    scale = weight.abs().amax(dim=1, keepdim=True) / INT4_MAX
    shifted = (weight / scale).round().to(torch.int64) + 8
    eights = shifted.unflatten(1, (-1, PER_INT32)) << torch.arange(0, 32, 4)
    packed = eights.sum(dim=2).to(torch.uint32).view(torch.int32)
    return {"weight_packed": packed, "weight_scale": scale, "weight_shape": torch.tensor(weight.shape)}


INT4_WEIGHTS = {"num_bits": 4, "type": "int", "symmetric": True, "strategy": "channel", "dynamic": False}
FORMATS: dict[str, tuple[Callable[[torch.Tensor], Tensors], dict[str, Any]]] = {
    "fp8": (fp8, {"quant_method": "fp8", "weight_block_size": [128, 128], "activation_scheme": "dynamic"}),
    "compressed-tensors int4": (
        int4,
        {
            "quant_method": "compressed-tensors",
            "format": "pack-quantized",
            "quantization_status": "compressed",
            "ignore": ["lm_head"],
            "config_groups": {"group_0": {"targets": ["Linear"], "weights": INT4_WEIGHTS}},
        },
    ),
}


def save_quantized(folder: Path, name: str) -> Path:
    """A tiny model whose decoder's linear layers are quantized."""
    quantize, config = FORMATS[name]
    save_tiny_model(folder, seed=4)
    tensors: Tensors = {}
    for key, tensor in load_file(folder / "model.safetensors").items():
        layer, _, _ = key.rpartition(".")
        parts = quantize(tensor) if layer.endswith("_proj") else {"weight": tensor}
        tensors |= {f"{layer}.{part}": value for part, value in parts.items()}
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    whole = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**whole, "quantization_config": config}))
    return folder


@pytest.mark.parametrize("name", FORMATS)
def test_a_quantized_checkpoint_says_what_generate_says(tmp_path, name):
    folder = save_quantized(tmp_path / "model", name)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    scripts = []
    for seed in range(2):
        ids = torch.tensor([list(range(20 + 7 * seed, 40 + 11 * seed))])
        output = model.generate(
            ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=30, eos_token_id=-1
        )
        reference = output[0, ids.shape[1] :].tolist()
        scripts.append(Script(prompt=ids[0].tolist(), reference=reference, vocab_size=BYTE_VOCAB, seed=seed))
    engine = load_engine(StageSettings(model=str(folder), device="cpu")).engine
    run_interleaved(engine, scripts, sampling=Sampling(), seed=0)
    for script in scripts:
        assert tuple(script.picked[:30]) == script.reference


@pytest.mark.parametrize("name", FORMATS)
def test_a_quantized_checkpoint_that_lacks_a_tensor_is_refused(tmp_path, name):
    """A scale that is missing would be a random number."""
    folder = save_quantized(tmp_path / "model", name)
    tensors = load_file(folder / "model.safetensors")
    lost = next(key for key in tensors if "_scale" in key)
    del tensors[lost]
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ModelError, match=rf"{lost}|does not run"):
        load_engine(StageSettings(model=str(folder), device="cpu"))


def test_a_format_whose_package_is_missing_says_which(tmp_path):
    folder = save_tiny_model(tmp_path / "model", seed=4)
    config = json.loads((folder / "config.json").read_text())
    config["quantization_config"] = {"quant_method": "eetq", "weights": "int8"}
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(ModelError, match="requires kernels"):
        load_engine(StageSettings(model=str(folder), device="cpu"))
