"""Packed layers say what the layers that they replace would say."""

from __future__ import annotations

import psutil
import pytest
import torch
from torch import nn
from transformers.pytorch_utils import Conv1D

from pipespec.engine.packed_linear import JoinedLinear, PackedLinear, filled, noted_inputs, pack_linears

ROWS = (1, 2, 3, 4, 5, 8, 15, 16, 17, 33, 64, 70)


class _Derived(nn.Linear):
    """A layer that may compute anything."""


def packed(layer: nn.Module) -> nn.Module:
    parent = nn.Sequential(layer)
    assert pack_linears(parent, {}) == 1
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
    assert pack_linears(model, {}) == 1
    assert model["one"] is model["two"][0]


def test_an_embedding_that_shares_its_weights_with_the_head_keeps_them():
    embedding, head = nn.Embedding(10, 8), nn.Linear(8, 10, bias=False)
    head.weight = embedding.weight
    model = nn.Sequential(embedding, head)
    ids = torch.tensor([[1, 2, 9]])
    expected = model(ids)
    assert pack_linears(model, {}) == 1
    torch.testing.assert_close(model(ids), expected)


@pytest.mark.parametrize(
    "layer",
    [nn.Linear(4, 4).to(torch.bfloat16), nn.Linear(4, 4, device="meta"), _Derived(4, 4), nn.Embedding(4, 4)],
    ids=("bfloat16", "elsewhere", "derived", "not linear"),
)
def test_other_layers_stay(layer):
    parent = nn.Sequential(layer)
    assert pack_linears(parent, {}) == 0
    assert parent[0] is layer


def test_a_layer_with_a_hook_stays():
    parent = nn.Sequential(nn.Linear(4, 4))
    parent[0].register_forward_hook(lambda *seen: 2 * seen[-1])
    assert pack_linears(parent, {}) == 0


def test_who_looks_at_the_weight_meets_an_error_not_a_wrong_number():
    replaced = packed(layer_of("linear"))
    with pytest.raises(RuntimeError):
        nn.functional.linear(torch.randn(3, 24), replaced.weight)


def test_rows_are_filled_to_few_numbers_and_by_little():
    numbers = {filled(num_rows) for num_rows in range(1, 513)}
    assert len(numbers) < 50
    assert all(filled(number) == number for number in numbers)
    assert all(num_rows <= filled(num_rows) <= num_rows * 9 / 8 for num_rows in range(17, 513))


def test_no_rows_are_not_filled():
    assert filled(0) == 0


def test_memory_follows_the_shapes_not_the_numbers_of_rows():
    """oneDNN keeps more than a MiB for every number of rows that it is shown: 800 MiB for all of them here."""
    layer = packed(nn.Linear(576, 1536, bias=False).requires_grad_(False))
    process = psutil.Process()
    with torch.inference_mode():
        for num_rows in {filled(number) for number in range(1, 513)}:
            layer(torch.randn(num_rows, 576))
        before = process.memory_info().rss
        for num_rows in range(1, 513):
            layer(torch.randn(num_rows, 576))
    assert process.memory_info().rss - before < 32 * 2**20


class _Forked(nn.Module):
    """Three layers, two of which are given the same tensor."""

    def __init__(self, *, bias: bool) -> None:
        super().__init__()
        self.one = nn.Linear(24, 40, bias=bias)
        self.two = nn.Linear(24, 16, bias=False)
        self.other = nn.Linear(24, 8)

    def forward(self, rows: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return self.one(rows), self.two(rows), self.other(rows + 1)


def forked(*, bias: bool) -> tuple[_Forked, _Forked]:
    """A module, and the same with layers replaced."""
    torch.manual_seed(0)
    plain, replaced = _Forked(bias=bias).requires_grad_(False), _Forked(bias=bias).requires_grad_(False)
    replaced.load_state_dict(plain.state_dict())
    with noted_inputs(replaced) as inputs:
        replaced(torch.randn(2, 24))
    assert pack_linears(replaced, inputs) == 3
    return plain, replaced


@pytest.mark.parametrize("bias", [False, True])
def test_layers_that_are_given_the_same_tensor_are_joined_and_say_the_same(bias):
    plain, replaced = forked(bias=bias)
    assert [type(child) for child in replaced.children()] == [JoinedLinear, JoinedLinear, PackedLinear]
    for num_rows in ROWS:
        rows = torch.randn(1, num_rows, 24)
        for said, expected in zip(replaced(rows), plain(rows), strict=True):
            torch.testing.assert_close(said, expected, rtol=1e-5, atol=1e-5)


def test_joined_layers_may_be_called_in_any_order_with_any_input():
    plain, replaced = forked(bias=False)
    inputs = [torch.randn(5, 24) for _ in range(3)]
    for name, index in (("two", 0), ("one", 1), ("one", 1), ("two", 2), ("two", 0), ("one", 0), ("one", 2)):
        said, expected = (getattr(module, name)(inputs[index]) for module in (replaced, plain))
        torch.testing.assert_close(said, expected, rtol=1e-5, atol=1e-5)
