"""The keys and values of all sessions, layer by layer, in slots.

Slot ``block * block_size + offset`` holds one token. Which layers there are and what their shapes are is found out by
one forward pass over two tokens, because no config of transformers tells it for every family. The tensors start as zeros:
what is masked out must still be finite.

Shape symbols: S = slots, H = key-value heads of a layer (on this device), D, E = sizes of a key and of a value.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch


@dataclass(slots=True)
class LayerPool:
    """One layer's ``keys [S, H, D]`` and ``values [S, H, E]``."""

    keys: torch.Tensor
    values: torch.Tensor

    def write(self, slots: torch.Tensor, keys: torch.Tensor, values: torch.Tensor) -> None:
        """Store rows ``[T, H, D]`` and ``[T, H, E]`` at ``slots [T]``."""
        self.keys.index_copy_(0, slots, keys)
        self.values.index_copy_(0, slots, values)

    def read(self, slots: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Copies of what is at ``slots [N, L]``: ``[N, H, L, D]`` and ``[N, H, L, E]``, as views."""
        num_sessions, num_keys = slots.shape
        flat = slots.reshape(-1)
        keys, values = self.keys.index_select(0, flat), self.values.index_select(0, flat)
        return (
            keys.view(num_sessions, num_keys, *keys.shape[1:]).transpose(1, 2),
            values.view(num_sessions, num_keys, *values.shape[1:]).transpose(1, 2),
        )


class KeyValuePool:
    """All layers. Layers come into being when they are first written to, with ``num_slots`` slots each.

    Layers are told apart by their attention module: some families number them from zero twice.
    """

    def __init__(self, num_slots: int) -> None:
        self.num_slots = num_slots
        self._layers: dict[int, LayerPool] = {}

    def layer(self, module: torch.nn.Module, keys: torch.Tensor, values: torch.Tensor) -> LayerPool:
        """A module's layer; rows ``[T, H, D]`` and ``[T, H, E]`` tell the shapes when it is new."""
        layer = self._layers.get(id(module))
        if layer is None:
            layer = self._layers[id(module)] = LayerPool(
                _zeros(keys, self.num_slots), _zeros(values, self.num_slots)
            )
        return layer

    @property
    def num_layers(self) -> int:
        """Layers that were written to."""
        return len(self._layers)

    @property
    def bytes_per_slot(self) -> int:
        """Bytes that one token takes in all layers."""
        tensors = [t for layer in self._layers.values() for t in (layer.keys, layer.values)]
        return sum(t[0].numel() * t.element_size() for t in tensors)

    def copy_slots(self, source: torch.Tensor, target: torch.Tensor) -> None:
        """Copy tokens ``[n]`` to other slots ``[n]`` in every layer."""
        for layer in self._layers.values():
            layer.write(target, layer.keys[source], layer.values[source])


def _zeros(like: torch.Tensor, num_slots: int) -> torch.Tensor:
    """Zeros ``[num_slots, *like.shape[1:]]``. On CPU the pages come from numpy: they cost nothing before they are written."""
    shape = (num_slots, *like.shape[1:])
    if like.device.type != "cpu":
        return like.new_zeros(shape)
    pages = np.zeros(math.prod(shape) * like.element_size(), dtype=np.uint8)
    return torch.from_numpy(pages).view(like.dtype).view(shape)
