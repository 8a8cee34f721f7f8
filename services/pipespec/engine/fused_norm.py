"""Root mean square norms as one operator: on CPU, a step of one token spends more on their five small ones than on attention.

Families bring norms of their own, most of which compute what torch's does. A norm is replaced where both say the same
of random rows, so families that scale otherwise keep theirs.
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn.functional import rms_norm

_EPSILONS = ("variance_epsilon", "eps")
"""What families call it."""
_NUM_ROWS = 3


class FusedNorm(nn.Module):
    """Applies ``weight · x / √(mean(x²) + epsilon)`` to ``[..., D]``."""

    def __init__(self, weight: nn.Parameter, epsilon: float) -> None:
        super().__init__()
        self.weight = weight
        self.variance_epsilon = epsilon
        self._shape = tuple(weight.shape)

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        """Apply it."""
        return rms_norm(rows, self._shape, self.weight, self.variance_epsilon)


def fuse_norms(model: nn.Module) -> int:
    """Replace the norms of a float32 model on CPU that torch has an operator for; how many were."""
    num_fused = 0
    for parent in list(model.modules()):
        for name, child in list(parent.named_children()):
            fused = _fused(child)
            if fused is not None:
                setattr(parent, name, fused)
                num_fused += 1
    return num_fused


@torch.inference_mode()
def _fused(module: nn.Module) -> FusedNorm | None:
    """What computes the same; None for what is no such norm."""
    weight = getattr(module, "weight", None)
    epsilon = next(
        (value for one in _EPSILONS if isinstance(value := getattr(module, one, None), float)), None
    )
    if (
        not type(module).__name__.endswith("RMSNorm")
        or not isinstance(weight, nn.Parameter)
        or weight.ndim != 1
        or weight.dtype != torch.float32
        or weight.device.type != "cpu"
        or epsilon is None
    ):
        return None
    fused = FusedNorm(weight, epsilon)
    rows = torch.linspace(-2.0, 3.0, _NUM_ROWS * len(weight)).view(1, _NUM_ROWS, -1)
    for scale in (1.0, epsilon**0.5):  # the second tells whether epsilon is meant alike
        try:
            said = module(rows * scale)
        except (TypeError, RuntimeError):  # it takes more than rows
            return None
        if not torch.allclose(said, fused(rows * scale), rtol=1e-5, atol=1e-6):
            return None
    return fused
