"""Which models and machines can be split over ranks."""

from __future__ import annotations

import pytest
import torch
from transformers import Gemma3TextConfig, GPT2Config, LlamaConfig, Qwen2Config

from pipespec.engine.parallel.split import check_split, device_of_ranks
from pipespec.ops.errors import ModelError

CPU = torch.device("cpu")


@pytest.mark.parametrize("config", [LlamaConfig, Qwen2Config, Gemma3TextConfig])
def test_families_with_a_plan_pass_where_heads_divide(config):
    check_split(config(num_attention_heads=8, num_key_value_heads=4), 4, device=CPU)


def test_a_family_without_a_plan_is_refused_by_name():
    with pytest.raises(ModelError, match=r"'gpt2' has no tensor-parallel plan.*'tensor_parallel' to 1"):
        check_split(GPT2Config(), 2, device=CPU)


@pytest.mark.parametrize(
    ("heads", "kv_heads", "complaint"),
    [(8, 2, "2 key value heads, which 4 ranks"), (6, 6, "6 attention heads, which 4 ranks")],
)
def test_heads_that_do_not_divide_are_refused(heads, kv_heads, complaint):
    config = LlamaConfig(hidden_size=48, num_attention_heads=heads, num_key_value_heads=kv_heads)
    with pytest.raises(ModelError, match=complaint):
        check_split(config, 4, device=CPU)


def test_a_quantized_model_is_not_split_on_cpu():
    config = LlamaConfig(quantization_config={"quant_method": "fp8"})
    with pytest.raises(ModelError, match="a quantized model cannot be split over 2 ranks on CPU"):
        check_split(config, 2, device=CPU)


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without CUDA")
def test_without_a_gpu_ranks_run_on_the_cpu_unless_gpus_are_asked_for():
    assert device_of_ranks("auto", 2) == device_of_ranks("cpu", 2) == "cpu"
    with pytest.raises(ModelError, match="needs 2 GPUs, one for each rank; torch sees 0"):
        device_of_ranks("cuda", 2)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
def test_with_gpus_ranks_take_one_each():
    num_gpus = torch.cuda.device_count()
    with pytest.raises(ModelError, match=f"needs {num_gpus + 1} GPUs"):
        device_of_ranks("auto", num_gpus + 1)
    with pytest.raises(ModelError, match="hide them with CUDA_VISIBLE_DEVICES="):
        device_of_ranks("cpu", 2)
