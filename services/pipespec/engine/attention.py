"""Our attention function, registered with transformers: writes the new rows to the pool, then reads by slots.

transformers calls it in every layer, after the rotary embedding, with the flattened batch; no mask function is
registered under its name, so transformers builds no mask. The query heads that share a key-value head are folded into
rows: SDPA's fused kernels then need no copies of the keys, and no ``enable_gqa``, which with a mask falls back to the
slow kernel. What SDPA does not know, capped logits and attention sinks, is computed step by step.

Shape symbols: T = rows, N = sessions of a group, Q = rows per session, L = keys, H = key-value heads, G = query heads
per key-value head, D, E = sizes of a key and of a value.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

import torch
from torch.nn.functional import scaled_dot_product_attention, softmax
from transformers import AttentionInterface

from pipespec.engine.kv_pool import KeyValuePool
from pipespec.engine.ragged import RaggedBatch
from pipespec.ops.errors import ModelError

NAME = "pipespec_paged"

_HARMLESS = frozenset({"dropout", "output_attentions", "output_router_logits", "position_ids"})
"""Keywords that change nothing here. One that is not known might, so it is refused: a bias, indices of the keys to see."""


@dataclass(slots=True)
class ForwardPass:
    """The pass that is running.

    Attributes:
        batch: its rows.
        pool: where keys and values are.
        windows: sliding window of every layer that was called, in order of the calls.
    """

    batch: RaggedBatch
    pool: KeyValuePool
    windows: list[int | None] = field(default_factory=list)


running: ContextVar[ForwardPass] = ContextVar("pipespec_forward_pass")
"""Not a keyword of the model's call: some families drop unknown ones."""


@dataclass(frozen=True, slots=True)
class Shaping:
    """How a layer shapes its logits.

    Attributes:
        scaling: factor; None: 1/√D.
        softcap: bound that they approach.
        sinks: ``[H·G]``, logits that take weight and give nothing.
    """

    scaling: float | None
    softcap: float | None
    sinks: torch.Tensor | None


def ragged_attention(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None = None,
    *,
    scaling: float | None = None,
    sliding_window: int | None = None,
    softcap: float | None = None,
    s_aux: torch.Tensor | None = None,
    **others: Any,
) -> tuple[torch.Tensor, None]:
    """Attention of all rows, each over its own session.

    Args:
        module: the layer's attention module.
        query: ``[1, H·G, T, D]``.
        key: ``[1, H, T, D]``.
        value: ``[1, H, T, E]``.
        attention_mask: None; a family that makes its own hides more than what comes later.
        scaling: see ``Shaping``.
        sliding_window: tokens that a row sees.
        softcap: see ``Shaping``.
        s_aux: the sinks, see ``Shaping``.
        others: what does not matter here, such as ``dropout``, and switches that are off.

    Returns:
        ``[1, T, H·G, E]``, and None for the weights.

    Raises:
        ModelError: the family asks for something that is not computed here.
    """
    _check_call(module, attention_mask, others)
    forward = running.get()
    forward.windows.append(sliding_window)
    shaping = Shaping(scaling, softcap, s_aux)
    keys, values = key[0].transpose(0, 1), value[0].transpose(0, 1)
    layer = forward.pool.layer(module, keys, values)
    layer.write(forward.batch.write_slots, keys, values)
    outputs = []
    end, repeats = 0, query.shape[1] // key.shape[1]
    for group in forward.batch.groups:
        num_sessions, num_rows = group.positions.shape
        end = group.first_row + num_sessions * num_rows
        rows = query[0, :, group.first_row : end]
        queries = rows.view(-1, num_sessions, num_rows, rows.shape[-1]).transpose(0, 1)
        mask = group.mask(sliding_window, repeats=repeats)
        attended = _attend(queries, *layer.read(group.key_slots), mask, shaping)
        outputs.append(attended.transpose(1, 2).flatten(0, 1))
    if end < query.shape[2]:
        outputs.append(value.new_zeros(query.shape[2] - end, query.shape[1], value.shape[-1]))
    # some families view the result as other shapes, which a lone session's transposed rows do not allow
    return (outputs[0].contiguous() if len(outputs) == 1 else torch.cat(outputs))[None], None


def _check_call(
    module: torch.nn.Module, attention_mask: torch.Tensor | None, others: Mapping[str, Any]
) -> None:
    """Refuse what would be ignored in silence."""
    name = type(module).__name__
    if attention_mask is not None:
        raise ModelError(f"{name} makes an attention mask of its own, which is not supported")
    said = others.get("is_causal")
    if not (getattr(module, "is_causal", True) if said is None else said):
        raise ModelError(f"{name} sees tokens that come later, which is not supported")
    for key, value in others.items():
        if value is not None and value is not False and key != "is_causal" and key not in _HARMLESS:
            raise ModelError(f"{name} asks attention for {key!r}, which is not supported")


def _attend(
    queries: torch.Tensor,
    keys: torch.Tensor,
    values: torch.Tensor,
    mask: torch.Tensor | None,
    shaping: Shaping,
) -> torch.Tensor:
    """``[N, H·G, Q, E]`` from queries ``[N, H·G, Q, D]``, keys ``[N, H, L, D]``, values ``[N, H, L, E]``.

    The mask is ``[N, 1, G·Q, L]``.
    """
    num_sessions, num_heads, num_rows, _ = queries.shape
    per_head = num_heads // keys.shape[1]
    folded = queries.reshape(num_sessions, keys.shape[1], per_head * num_rows, -1)
    if shaping.softcap is None and shaping.sinks is None:
        output = scaled_dot_product_attention(folded, keys, values, attn_mask=mask, scale=shaping.scaling)
    else:
        output = _attend_stepwise(folded, keys, values, mask, shaping)
    return output.reshape(num_sessions, num_heads, num_rows, -1)


def _attend_stepwise(
    folded: torch.Tensor,
    keys: torch.Tensor,
    values: torch.Tensor,
    mask: torch.Tensor | None,
    shaping: Shaping,
) -> torch.Tensor:
    scaling = folded.shape[-1] ** -0.5 if shaping.scaling is None else shaping.scaling
    logits = folded @ keys.transpose(2, 3) * scaling
    if shaping.softcap is not None:
        logits = torch.tanh(logits / shaping.softcap) * shaping.softcap
    if mask is not None:
        logits = logits.masked_fill(~mask, float("-inf"))
    if shaping.sinks is not None:
        num_heads, num_rows = folded.shape[1:3]
        per_row = shaping.sinks.view(num_heads, -1, 1).expand(
            -1, -1, num_rows * num_heads // shaping.sinks.numel()
        )
        sinks = (
            per_row.reshape(1, num_heads, num_rows, 1).expand(folded.shape[0], -1, -1, -1).to(logits.dtype)
        )
        logits = torch.cat([logits, sinks], dim=-1)
    weights = softmax(logits, dim=-1, dtype=torch.float32).to(values.dtype)
    return weights[..., : keys.shape[2]] @ values


AttentionInterface.register(NAME, ragged_attention)
