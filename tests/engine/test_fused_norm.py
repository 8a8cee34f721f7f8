"""A norm is replaced where torch's operator says the same, and only there."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from transformers.models.gemma.modeling_gemma import GemmaRMSNorm
from transformers.models.llama.modeling_llama import LlamaRMSNorm

from pipespec.engine.fused_norm import FusedNorm, fuse_norms


def norm(kind: type[nn.Module], *, dtype: torch.dtype = torch.float32) -> nn.Module:
    torch.manual_seed(0)
    layer = kind(24, eps=1e-3)
    nn.init.normal_(layer.weight)
    return layer.to(dtype).requires_grad_(False)


@pytest.mark.parametrize("scale", [1.0, 1e-3, 1e3])
def test_a_fused_norm_says_what_the_family_s_says(scale):
    layer = norm(LlamaRMSNorm)
    parent = nn.Sequential(layer)
    assert fuse_norms(parent) == 1
    assert type(parent[0]) is FusedNorm
    rows = torch.randn(1, 7, 24) * scale
    torch.testing.assert_close(parent(rows), layer(rows), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    "layer",
    [norm(GemmaRMSNorm), norm(LlamaRMSNorm, dtype=torch.bfloat16), nn.LayerNorm(24)],
    ids=("scales by 1 + weight", "bfloat16", "another norm"),
)
def test_other_norms_stay(layer):
    parent = nn.Sequential(layer)
    assert fuse_norms(parent) == 0
    assert parent[0] is layer
