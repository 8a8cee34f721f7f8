"""Linear layers with weights in oneDNN's packed layout: on CPU, four rows for the price of one.

torch's own path lays the weights out anew in every call. Packed once, a step of 1 to 5 tokens costs the same, and one of 8
half as much as before (``docs/decisions``). The packed copy replaces the weights, so memory stays what it was, but for an
LM head that shares its weights with the embedding. For every number of rows and shape of weights oneDNN makes a kernel that
it keeps, so it is shown few numbers: those that ``filled`` gives. Layers that are given the same input are one product.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TypeGuard

import torch
from torch import nn
from torch.nn.functional import pad
from transformers.pytorch_utils import Conv1D

_MIN_ROWS = 4
"""Fewer rows take as long, or longer."""

_PACKED_FOR = 64
"""Rows that oneDNN is told to expect; this layout measured well from 4 to 256."""

Layer = nn.Linear | Conv1D
Inputs = Mapping[Layer, torch.Tensor]
"""What layers were given last."""


def filled(num_rows: int) -> int:
    """The least number of rows, of the few that oneDNN is shown, that holds ``num_rows``; at most an eighth more from 17 on."""
    if num_rows <= _MIN_ROWS:
        return _MIN_ROWS if num_rows else 0
    step = max(2, (1 << (num_rows - 1).bit_length()) // 16)
    return -(-num_rows // step) * step


class PackedLinear(nn.Module):
    """Applies ``x @ weight.T + bias`` to ``[..., in]``, float32 on CPU."""

    def __init__(self, weight: torch.Tensor, bias: torch.Tensor | None) -> None:
        super().__init__()
        self.out_features, self.in_features = weight.shape
        self.weight = _shadow(weight)
        self._bias = bias
        self._packed = torch.ops.mkldnn._reorder_linear_weight(weight.contiguous(), _PACKED_FOR)  # noqa: SLF001  # no public name
        self._apply_packed = torch.ops.mkldnn._linear_pointwise.default  # noqa: SLF001  # as above

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        """Apply it."""
        num_rows = rows.numel() // self.in_features
        surplus = filled(num_rows) - num_rows
        if surplus:  # of an expert, say: those of a batch are filled up already
            flat = self._product(pad(rows.reshape(num_rows, self.in_features), (0, 0, 0, surplus)))
            return flat[:num_rows].view(*rows.shape[:-1], self.out_features)
        if num_rows == 0:
            return rows.new_empty(*rows.shape[:-1], self.out_features)
        return self._product(rows)

    def _product(self, rows: torch.Tensor) -> torch.Tensor:
        output: torch.Tensor = self._apply_packed(rows, self._packed, self._bias, "none", [], "")
        return output


class JoinedLinear(nn.Module):
    """One of several layers that are given the same tensor; the first that is called computes for all."""

    def __init__(self, product: _JoinedProduct, columns: slice) -> None:
        super().__init__()
        self.out_features, self.in_features = columns.stop - columns.start, product.linear.in_features
        self.weight = _shadow(product.linear.weight)
        self._product = product
        self._columns = columns

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        """Apply it; the result is a view."""
        return self._product.of(rows)[..., self._columns]


class _JoinedProduct:
    """What layers with the same input say, one beside the other. Another input is just another product.

    Args:
        linear: all of them.
        num_parts: how many they are.
    """

    def __init__(self, linear: PackedLinear, num_parts: int) -> None:
        self.linear = linear
        self._num_parts = num_parts
        self._num_left = 0
        self._rows: torch.Tensor | None = None
        self._output: torch.Tensor | None = None

    def of(self, rows: torch.Tensor) -> torch.Tensor:
        """The product, kept until all have asked for it."""
        output = self._output
        if output is None or rows is not self._rows:
            output = self.linear(rows)
            self._rows, self._output, self._num_left = rows, output, self._num_parts
        self._num_left -= 1
        if self._num_left == 0:
            self._rows = self._output = None
        return output


@contextmanager
def noted_inputs(model: nn.Module) -> Iterator[Inputs]:
    """Note what the linear layers are given while the block runs."""
    inputs: dict[Layer, torch.Tensor] = {}

    def note(layer: Layer, given: tuple[torch.Tensor, ...]) -> None:
        inputs[layer] = given[0]

    layers = [module for module in model.modules() if _is_plain(module)]
    hooks = [layer.register_forward_pre_hook(note) for layer in layers]
    try:
        yield inputs
    finally:
        for hook in hooks:
            hook.remove()


def pack_linears(model: nn.Module, inputs: Inputs) -> int:
    """Replace the linear layers of a float32 model on CPU; how many were. Where oneDNN is not there, none.

    Args:
        model: changed in place.
        inputs: see ``noted_inputs``; layers of one parent that were given the same tensor are joined.
    """
    if not torch.backends.mkldnn.is_available():  # type: ignore[no-untyped-call]  # torch lacks the types
        return 0
    packed: dict[Layer, nn.Module] = {}
    for parent in list(model.modules()):
        children = {name: child for name, child in parent.named_children() if _is_plain(child)}
        new = [child for child in children.values() if child not in packed]
        for siblings in _by_input(new, inputs):
            packed.update(zip(siblings, _replaced(siblings), strict=True))
        for name, child in children.items():
            setattr(parent, name, packed[child])
    return len(packed)


def _by_input(layers: list[Layer], inputs: Inputs) -> list[list[Layer]]:
    """Groups of layers that were given the same tensor; each by itself where that is not known."""
    groups: defaultdict[int, list[Layer]] = defaultdict(list)
    for layer in layers:
        groups[id(inputs.get(layer, layer))].append(layer)
    return list(groups.values())


def _replaced(siblings: list[Layer]) -> list[nn.Module]:
    weights = [_weight(layer) for layer in siblings]
    biases = [layer.bias for layer in siblings]
    if len(siblings) == 1:
        return [PackedLinear(weights[0], None if biases[0] is None else biases[0].detach())]
    bias = None
    if any(one is not None for one in biases):
        bias = torch.cat(
            [
                weight.new_zeros(len(weight)) if one is None else one.detach()
                for weight, one in zip(weights, biases, strict=True)
            ]
        )
    product = _JoinedProduct(PackedLinear(torch.cat(weights), bias), len(siblings))
    joined: list[nn.Module] = []
    start = 0
    for weight in weights:
        joined.append(JoinedLinear(product, slice(start, start + len(weight))))
        start += len(weight)
    return joined


def _weight(layer: Layer) -> torch.Tensor:
    """``[out, in]``."""
    weight = layer.weight.detach()
    return weight.t() if isinstance(layer, Conv1D) else weight


def _shadow(weight: torch.Tensor) -> nn.Parameter:
    """An empty weight: some families ask for its dtype."""
    return nn.Parameter(weight.new_empty(0), requires_grad=False)


def _is_plain(module: nn.Module) -> TypeGuard[Layer]:
    """Linear, not of a kind derived from that, not sharded, not quantized, nothing hooked to it."""
    if not isinstance(module, nn.Linear | Conv1D) or type(module) not in (nn.Linear, Conv1D):
        return False
    weight = getattr(module, "weight", None)  # compressed layers have none until they are first called
    return (
        type(weight) is nn.Parameter
        and type(weight.data) is torch.Tensor
        and weight.dtype == torch.float32
        and weight.device.type == "cpu"
        and "forward" not in module.__dict__
        and not module._forward_hooks  # noqa: SLF001  # no public name
        and not module._forward_pre_hooks  # noqa: SLF001  # as above
    )
