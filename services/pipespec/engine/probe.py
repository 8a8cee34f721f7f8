"""A test at load: whether a model says over the pool, in ragged batches, what it says by itself.

Some families keep state outside attention, look ahead, call attention in ways of their own, or drop what it needs. They
would be silently wrong, so a model that fails here is refused before it serves anyone. Two texts are fed in pieces, with a
detour that is rolled back, and the last piece of one of them once more by itself; every layer must have used the pool. The error that is allowed is less than what a lost
context would make, where that can be told from rounding.

Shape symbols: T = tokens of a text, R = every other of them, to the last of each piece, V = vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from transformers import PreTrainedModel

from pipespec.engine.batch_builder import BatchBuilder, Share
from pipespec.engine.checkpoint import context_len, vocab_size
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
_SHARE = 0.25
"""Greatest error relative to what another context changes: a model that loses its context must not pass as a rough one."""
_FAILURES = (AttributeError, IndexError, KeyError, NotImplementedError, RuntimeError, TypeError, ValueError)
"""What a family raises that is called in a way that it does not know."""


@dataclass(frozen=True, slots=True)
class Ordinary:
    """What a model says by itself about one of the texts.

    Attributes:
        logits: float32 ``[T, V]``.
        dependence: root mean square change of the logits of the text's second half, relative to their spread, when its
            first half is another.
    """

    logits: torch.Tensor
    dependence: float


@torch.inference_mode()
def ordinary_logits(model: PreTrainedModel) -> list[Ordinary]:
    """What the model says by itself about each of the texts.

    Raises:
        ModelError: it does not run, or holds less than the texts.
    """
    if context_len(model.config) < max(_LENGTHS):
        raise ModelError(
            f"{_name(model)} has a context of {context_len(model.config)} tokens; at least {max(_LENGTHS)} are needed"
        )
    try:
        return [_ordinary(model, text) for text in _texts(model)]
    except _FAILURES as error:
        raise ModelError(f"{_name(model)} does not run: {error}") from error


def _ordinary(model: PreTrainedModel, text: Sequence[int]) -> Ordinary:
    half, num_ids = len(text) // 2, vocab_size(model)
    other = [*((token + 1) % num_ids for token in text[:half]), *text[half:]]
    one, two = (
        model(input_ids=torch.tensor([ids], device=model.device), use_cache=False).logits[0].float()
        for ids in (text, other)
    )
    if not (one.isfinite().all() and two.isfinite().all()):
        raise ModelError(
            f"{_name(model)} says nothing but NaN or infinity; its checkpoint is damaged, or its numbers are beyond "
            f"{model.dtype}: choose another 'dtype'"
        )
    if one.std() == 0:
        raise ModelError(
            f"{_name(model)} finds all tokens equally likely; the weights of its checkpoint are empty"
        )
    return Ordinary(one, dependence=_off_by(two[half:], one[half:]))


def _off_by(logits: torch.Tensor, expected: torch.Tensor) -> float:
    return ((logits - expected).square().mean().sqrt() / expected.std()).item()


@torch.inference_mode()
def check(runner: ModelRunner, ordinary: Sequence[Ordinary]) -> None:
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
    except ModelError as error:
        raise ModelError(f"{name} cannot be served: {error}") from error
    except _FAILURES as error:
        raise ModelError(f"{name} does not work with attention over a paged cache: {error}") from error
    _check_layers(runner, windows)
    half = runner.model.dtype in (torch.bfloat16, torch.float16) or hasattr(runner.model, "hf_quantizer")
    for logits, cuts, expected in zip(ragged, _CUTS, ordinary, strict=True):
        off_by = _off_by(logits, expected.logits[_rows(cuts)])
        allowed = min(_TOLERANCE_HALF if half else _TOLERANCE, _SHARE * expected.dependence)
        if not off_by <= allowed:
            raise ModelError(
                f"{name} cannot be served: over a paged cache its logits are off by {off_by:.3g} of their spread "
                f"(allowed: {allowed:.3g}); choose a model with plain causal attention"
            )


def _ragged_logits(runner: ModelRunner) -> tuple[list[torch.Tensor], list[int | None]]:
    """Float32 ``[R, V]`` of both texts, fed in pieces side by side, and the windows of the layers."""
    builder = BatchBuilder(device=runner.model.device, block_size=BLOCK_SIZE)
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
            pieces, torch.split(logits.float(), [len(s.logits_of) for s in shares]), strict=True
        ):
            piece.append(one)
    lone, _ = runner.run(builder.build(shares[:1]))
    pieces[0][-1] = lone.float()
    return [torch.cat(piece) for piece in pieces], windows


def _share(tokens: Sequence[int], start: int, table: Sequence[int], *, shift: int, num_ids: int) -> Share:
    """``shift`` other than 0 makes other tokens of them. Not all logits are asked for: a family might give all."""
    fed = [TokenId((token + shift) % num_ids) for token in tokens]
    return Share(fed, start, table[: -(-(start + len(fed)) // BLOCK_SIZE)], _every_other(0, len(fed)))


def _every_other(start: int, end: int) -> range:
    return range(end - 1 - (end - start - 1) // 2 * 2, end, 2)


def _rows(cuts: Sequence[int]) -> list[int]:
    """The R positions of a text whose logits are compared."""
    return [row for start, end in pairwise(cuts) for row in _every_other(start, end)]


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
    window = getattr(config, "sliding_window", None)
    if types is None:
        types = ["sliding_attention" if window else "full_attention"] * num_layers
    unknown = sorted(set(types) - {"sliding_attention", "full_attention"})
    if unknown:
        raise ModelError(f"{name} cannot be served: it has layers of type {', '.join(unknown)}")
    end = context_len(runner.model.config)
    expected = [_within(window if kind == "sliding_attention" else None, end) for kind in types]
    said = [_within(one, end) for one in windows]
    for layer, (one, other) in enumerate(zip(said, expected, strict=True)):
        if one != other:
            raise ModelError(
                f"{name} cannot be served: layer {layer} should see {_named(other)}, but it tells attention to see "
                f"{_named(one)}"
            )


def _within(window: int | None, end: int) -> int | None:
    """A window that no text of ``end`` tokens leaves is none."""
    return None if window is None or window >= end else window


def _named(window: int | None) -> str:
    return "all tokens" if window is None else f"a window of {window} tokens"


def _texts(model: PreTrainedModel) -> list[list[int]]:
    num_ids = vocab_size(model)
    return [[(7 * i * i + 3 * i + length) % num_ids for i in range(length)] for length in _LENGTHS]


def _name(model: PreTrainedModel) -> str:
    """The type tells which family it is, the path which model."""
    path = model.name_or_path
    return f"model type {model.config.model_type!r}" + (f" ({path})" if path else "")
