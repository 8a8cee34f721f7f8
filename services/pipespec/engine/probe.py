"""A test at load: whether a model says over the pool, in ragged batches, what it says by itself.

Some families keep state outside attention, look ahead, call attention in ways of their own, or drop what it needs. They
would be silently wrong, so a model that fails here is refused before it serves anyone. Two texts are fed in pieces, with a
detour that is rolled back; every layer must have used the pool.

Shape symbols: T = tokens of a text, V = vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from transformers import PreTrainedModel

from pipespec.engine.batch_builder import BatchBuilder, Share
from pipespec.engine.checkpoint import vocab_size
from pipespec.engine.runner import ModelRunner
from pipespec.ops.errors import ModelError
from pipespec.protocol.ids import TokenId

BLOCK_SIZE = 4
NUM_SLOTS = 41 * BLOCK_SIZE
_LENGTHS = (43, 26)
_CUTS = ((0, 19, 20, 25, 43), (0, 1, 9, 10, 26))
"""Where the texts are cut into pieces: chunks, single tokens, and across the borders of blocks."""
_TABLES = (tuple(range(1, 12)), tuple(range(40, 33, -1)))
_DETOUR = 5
_TOLERANCE = 1e-3
_TOLERANCE_HALF = 0.1
"""Greatest root mean square error of the logits, relative to their spread, in float32 and in 16-bit types."""
_FAILURES = (AttributeError, IndexError, KeyError, NotImplementedError, RuntimeError, TypeError, ValueError)
"""What a family raises that is called in a way that it does not know."""


@torch.inference_mode()
def ordinary_logits(model: PreTrainedModel) -> list[torch.Tensor]:
    """What the model says by itself: float32 ``[T, V]`` for each of the texts.

    Raises:
        ModelError: it does not run.
    """
    try:
        return [
            model(input_ids=torch.tensor([text], device=model.device), use_cache=False).logits[0].float()
            for text in _texts(model)
        ]
    except _FAILURES as error:
        raise ModelError(f"{_name(model)} does not run: {error}") from error


@torch.inference_mode()
def check(runner: ModelRunner, ordinary: Sequence[torch.Tensor]) -> None:
    """Compare with what the runner's model says over the pool.

    Args:
        runner: with ``NUM_SLOTS`` slots.
        ordinary: of the same model, before it was given to the runner.

    Raises:
        ModelError: the model cannot be served by this engine.
    """
    name = _name(runner.model)
    try:
        ragged, windows = _ragged_logits(runner)
    except _FAILURES as error:
        raise ModelError(f"{name} does not work with attention over a paged cache: {error}") from error
    _check_layers(runner, windows)
    half = runner.model.dtype in (torch.bfloat16, torch.float16)
    tolerance = _TOLERANCE_HALF if half else _TOLERANCE
    for one, other in zip(ragged, ordinary, strict=True):
        off_by = ((one - other).square().mean().sqrt() / other.std()).item()
        if not off_by <= tolerance:
            raise ModelError(
                f"{name} cannot be served: over a paged cache its logits are off by {off_by:.3g} of their spread "
                f"(allowed: {tolerance}); choose a model with plain causal attention"
            )


def _ragged_logits(runner: ModelRunner) -> tuple[list[torch.Tensor], list[int | None]]:
    """Float32 ``[T, V]`` of both texts, fed in pieces side by side, and the windows of the layers."""
    builder = BatchBuilder(device=runner.model.device, block_size=BLOCK_SIZE, min_rows=1)
    texts = _texts(runner.model)
    num_ids = vocab_size(runner.model)
    pieces: list[list[torch.Tensor]] = [[] for _ in texts]
    windows: list[int | None] = []
    for step in range(len(_CUTS[0]) - 1):
        spans = [list(pairwise(cuts))[step] for cuts in _CUTS]
        detour = [
            _share(text[start : start + _DETOUR], start, table, shift=1, num_ids=num_ids)
            for text, (start, _), table in zip(texts, spans, _TABLES, strict=True)
        ]
        runner.run(builder.build(detour))
        shares = [
            _share(text[start:end], start, table, shift=0, num_ids=num_ids)
            for text, (start, end), table in zip(texts, spans, _TABLES, strict=True)
        ]
        logits, forward = runner.run(builder.build(shares))
        windows = forward.windows
        for piece, one in zip(
            pieces, torch.split(logits.float(), [len(s.tokens) for s in shares]), strict=True
        ):
            piece.append(one)
    return [torch.cat(piece) for piece in pieces], windows


def _share(tokens: Sequence[int], start: int, table: Sequence[int], *, shift: int, num_ids: int) -> Share:
    """``shift`` other than 0 makes other tokens of them."""
    fed = [TokenId((token + shift) % num_ids) for token in tokens]
    return Share(fed, start, table[: -(-(start + len(fed)) // BLOCK_SIZE)], range(len(fed)))


def _check_layers(runner: ModelRunner, windows: Sequence[int | None]) -> None:
    """Every layer must have attended over the pool, and the windowed ones must have said how far they see."""
    config = runner.model.config.get_text_config(decoder=True)
    name, num_layers = _name(runner.model), config.num_hidden_layers
    if len(windows) != num_layers or runner.pool.num_layers != num_layers:
        raise ModelError(
            f"{name} cannot be served: {runner.pool.num_layers} of its {num_layers} layers keep keys and values, in "
            f"{len(windows)} calls; choose a model whose layers all use plain attention"
        )
    types = getattr(config, "layer_types", None)
    if types is None:
        types = [
            "sliding_attention" if getattr(config, "sliding_window", None) else "full_attention"
        ] * num_layers
    unknown = sorted(set(types) - {"sliding_attention", "full_attention"})
    if unknown:
        raise ModelError(f"{name} cannot be served: it has layers of type {', '.join(unknown)}")
    said = ["full_attention" if window is None else "sliding_attention" for window in windows]
    if said != list(types):
        raise ModelError(
            f"{name} cannot be served: {types.count('sliding_attention')} of its layers have a sliding window, but "
            f"{said.count('sliding_attention')} of them tell attention about it"
        )


def _texts(model: PreTrainedModel) -> list[list[int]]:
    num_ids = vocab_size(model)
    return [[(7 * i * i + 3 * i + length) % num_ids for i in range(length)] for length in _LENGTHS]


def _name(model: PreTrainedModel) -> str:
    return f"model type {model.config.model_type!r}"
