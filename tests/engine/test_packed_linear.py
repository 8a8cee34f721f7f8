"""Packed layers say what the layers that they replace would say."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from transformers.pytorch_utils import Conv1D

from pipespec.engine.packed_linear import PackedLinear, pack_linears

ROWS = (1, 2, 3, 4, 5, 8, 15, 16, 17, 33, 64, 70)


class _Derived(nn.Linear):
    """A layer that may compute anything."""


def packed(layer: nn.Module) -> nn.Module:
    parent = nn.Sequential(layer)
    assert pack_linears(parent) == 1
    return parent[0]


def layer_of(kind: str) -> nn.Module:
    torch.manual_seed(0)
    match kind:
        case "linear":
            layer: nn.Module = nn.Linear(24, 40, bias=False)
        case "linear with bias":
            layer = nn.Linear(24, 40)
        case _:
            layer = Conv1D(40, 24)
            nn.init.normal_(layer.bias)
    return layer.requires_grad_(False)


@pytest.mark.parametrize("kind", ["linear", "linear with bias", "conv1d"])
def test_any_number_of_rows_gives_what_the_layer_gives(kind):
    layer = layer_of(kind)
    replaced = packed(layer)
    assert type(replaced) is PackedLinear
    for num_rows in ROWS:
        rows = torch.randn(1, num_rows, 24)
        torch.testing.assert_close(replaced(rows), layer(rows), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("shape", [(24,), (5, 24), (2, 3, 24), (2, 1, 3, 24)], ids=str)
def test_any_number_of_dimensions_is_taken(shape):
    layer = layer_of("linear with bias")
    rows = torch.randn(shape)
    torch.testing.assert_close(packed(layer)(rows), layer(rows), rtol=1e-5, atol=1e-5)


def test_rows_need_not_lie_in_a_row():
    """Attention hands over transposed views, the choice of logits slices."""
    layer = layer_of("linear with bias")
    replaced = packed(layer)
    for rows in (
        torch.randn(24, 7).t()[None],
        torch.randn(1, 9, 24)[:, ::2],
        torch.randn(1, 1, 24).expand(1, 4, 24),
    ):
        torch.testing.assert_close(replaced(rows), layer(rows), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("shape", [(1, 0, 24), (0, 24)], ids=str)
def test_no_rows_give_no_rows(shape):
    assert packed(layer_of("linear"))(torch.empty(shape)).shape == (*shape[:-1], 40)


def test_a_layer_that_is_used_twice_is_packed_once():
    layer = layer_of("linear")
    model = nn.ModuleDict({"one": layer, "two": nn.Sequential(layer)})
    assert pack_linears(model) == 1
    assert model["one"] is model["two"][0]


def test_an_embedding_that_shares_its_weights_with_the_head_keeps_them():
    embedding, head = nn.Embedding(10, 8), nn.Linear(8, 10, bias=False)
    head.weight = embedding.weight
    model = nn.Sequential(embedding, head)
    ids = torch.tensor([[1, 2, 9]])
    expected = model(ids)
    assert pack_linears(model) == 1
    torch.testing.assert_close(model(ids), expected)


@pytest.mark.parametrize(
    "layer",
    [nn.Linear(4, 4).to(torch.bfloat16), nn.Linear(4, 4, device="meta"), _Derived(4, 4), nn.Embedding(4, 4)],
    ids=("bfloat16", "elsewhere", "derived", "not linear"),
)
def test_other_layers_stay(layer):
    parent = nn.Sequential(layer)
    assert pack_linears(parent) == 0
    assert parent[0] is layer


def test_a_layer_with_a_hook_stays():
    parent = nn.Sequential(nn.Linear(4, 4))
    parent[0].register_forward_hook(lambda *seen: 2 * seen[-1])
    assert pack_linears(parent) == 0


def test_who_looks_at_the_weight_meets_an_error_not_a_wrong_number():
    replaced = packed(layer_of("linear"))
    with pytest.raises(RuntimeError):
        nn.functional.linear(torch.randn(3, 24), replaced.weight)
