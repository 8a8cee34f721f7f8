"""Linear layers with weights in oneDNN's packed layout: on CPU, four rows for the price of one.

torch's own path lays the weights out anew in every call. Packed once, a step of 1 to 5 tokens costs the same, and one of 8
half as much as before (``docs/decisions``); rows are therefore filled up to four. The packed copy replaces the
weights, so memory stays what it was, but for an LM head that shares its weights with the embedding.
"""

from __future__ import annotations

import torch
from torch import nn
from transformers.pytorch_utils import Conv1D

MIN_ROWS = 4
"""Fewer rows take as long, or longer."""

_PACKED_FOR = 64
"""Rows that oneDNN is told to expect; this layout measured well from 4 to 256."""


class PackedLinear(nn.Module):
    """Applies ``x @ weight.T + bias`` to ``[..., in]``, float32 on CPU."""

    def __init__(self, weight: torch.Tensor, bias: torch.Tensor | None) -> None:
        super().__init__()
        self.out_features, self.in_features = weight.shape
        self.weight = nn.Parameter(
            weight.new_empty(0), requires_grad=False
        )  # some families ask for its dtype
        self._bias = bias
        self._packed = torch.ops.mkldnn._reorder_linear_weight(weight.contiguous(), _PACKED_FOR)  # noqa: SLF001  # no public name

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        """Apply it."""
        if rows.numel() == 0:
            return rows.new_empty(*rows.shape[:-1], self.out_features)
        output: torch.Tensor = torch.ops.mkldnn._linear_pointwise(  # noqa: SLF001  # as above
            rows, self._packed, self._bias, "none", [], ""
        )
        return output


def pack_linears(model: nn.Module) -> int:
    """Replace the linear layers of a float32 model on CPU; how many were. Where oneDNN is not there, none."""
    if not torch.backends.mkldnn.is_available():  # type: ignore[no-untyped-call]  # torch lacks the types
        return 0
    packed: dict[nn.Module, PackedLinear] = {}
    for parent in list(model.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, nn.Linear | Conv1D) and _is_plain(child):
                if child not in packed:
                    packed[child] = _packed(child)
                setattr(parent, name, packed[child])
    return len(packed)


def _packed(child: nn.Linear | Conv1D) -> PackedLinear:
    weight = child.weight.detach()
    bias = None if child.bias is None else child.bias.detach()
    return PackedLinear(weight.t() if isinstance(child, Conv1D) else weight, bias)


def _is_plain(child: nn.Linear | Conv1D) -> bool:
    """Not of a kind derived from these, not sharded, not quantized, nothing hooked to it."""
    weight = child.weight
    return (
        type(child) in (nn.Linear, Conv1D)
        and type(weight) is nn.Parameter
        and type(weight.data) is torch.Tensor
        and weight.dtype == torch.float32
        and weight.device.type == "cpu"
        and "forward" not in child.__dict__
        and not child._forward_hooks  # noqa: SLF001  # no public name
        and not child._forward_pre_hooks  # noqa: SLF001  # as above
    )
