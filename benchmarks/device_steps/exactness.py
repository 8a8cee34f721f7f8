"""What must hold before anything is timed, and how often bf16 rounds a choice the other way.

In float32, captured steps and ragged batches must say what the model says by itself. In bf16, a step of many tokens adds in
another order than one of a single token; where two logits are nearly equal, another token may win. These are counted.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from benchmarks.device_steps.engines import Launch, close, make_engine, read
from benchmarks.device_steps.shapes import ModelShape

from pipespec.ops.errors import InvariantBroken
from pipespec.protocol.ids import TokenId

_PROMPT = 33
_WIDTH = 8
_TOLERANCE = 1e-4


@dataclass(frozen=True, slots=True)
class Rounding:
    """Greedy choices that a step of ``width`` tokens makes otherwise than steps of one token.

    Attributes:
        positions: compared.
        mismatches: where they differ.
        width: tokens per step.
    """

    positions: int
    mismatches: int
    width: int


@torch.inference_mode()
def check_float32(shape: ModelShape, device: torch.device, *, num_tokens: int = 40) -> float:
    """Greedy texts of both kinds of launch equal those of the model by itself; the largest error of a logit.

    Raises:
        InvariantBroken: they do not.
    """
    model = shape.build(device=device, dtype=torch.float32)
    texts = {}
    for launch in Launch:
        engine = make_engine(shape.build(device=device, dtype=torch.float32), launch, num_tokens=512)
        (text,) = read(engine, num_sessions=1, num_tokens=_PROMPT)
        while len(text.tokens) < num_tokens:
            text.tokens.append(engine.step([text.work([])])[0].picks[0])
        texts[launch] = text
    one, other = (text.tokens for text in texts.values())
    whole = torch.tensor([[*texts[Launch.RAGGED].prompt, *one]], device=device)
    logits = model(whole, use_cache=False).logits[0, _PROMPT - 1 : -1]
    top = logits.topk(2).values
    chosen = logits.gather(1, torch.tensor(one, device=device)[:, None])[:, 0]
    behind = float((top[:, 0] - chosen).max().item())
    if one != other or behind > _TOLERANCE:
        raise InvariantBroken(
            f"in float32 on {device} the engine does not say what the model says: captured and ragged steps "
            f"{'agree' if one == other else 'differ'}, a chosen logit is {behind:.2g} below the best (allowed: {_TOLERANCE})"
        )
    return behind


@torch.inference_mode()
def count_rounding(shape: ModelShape, device: torch.device, *, num_tokens: int = 256) -> Rounding:
    """Check a text that was generated token by token again in steps of ``_WIDTH``."""
    engine = make_engine(shape.build(device=device, dtype=torch.bfloat16), Launch.CAPTURED, num_tokens=1024)
    (text,) = read(engine, num_sessions=1, num_tokens=_PROMPT)
    while len(text.tokens) < num_tokens:
        text.tokens.append(engine.step([text.work([])])[0].picks[0])
    alone, mismatches = list(text.tokens), 0
    for start in range(0, num_tokens - _WIDTH, _WIDTH):
        text.tokens = alone[:start]
        candidates: list[TokenId] = alone[start : start + _WIDTH - 1]
        picks = engine.step([text.work(candidates)])[0].picks
        mismatches += sum(pick != own for pick, own in zip(picks, alone[start : start + _WIDTH], strict=True))
    close(engine, [text])
    return Rounding(positions=(num_tokens - _WIDTH) // _WIDTH * _WIDTH, mismatches=mismatches, width=_WIDTH)
