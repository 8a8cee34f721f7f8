"""Chooses tokens from logits: penalties, warpers, then the shared noise.

Order as in transformers' ``generate``: logit bias, repetition penalty, presence and frequency penalty, temperature,
top-k, top-p, min-p; the warpers are transformers' own, so the warped distribution is the one that ``generate`` samples.
``argmax(warped + gumbel)`` draws exactly from its softmax, and draws the same token on every stage.

Shape symbols: R = rows of all sessions, n = rows (positions) of one, V = vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice

import torch
from transformers import (
    LogitsProcessorList,
    MinPLogitsWarper,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from pipespec.protocol.ids import Position, TokenId
from pipespec.protocol.noise import GOLDEN, MULTIPLIER_1, MULTIPLIER_2, UNIFORM_BITS, noise_key
from pipespec.protocol.sampling import Sampling

_LOWEST_TEMPERATURE = 1e-30
"""Smaller ones would divide float32 logits to infinity; here the best token wins over all noise already."""


@dataclass(frozen=True, slots=True)
class PickRequest:
    """Rows of one session, and what its choices depend on.

    Attributes:
        num_rows: n; row i predicts position ``base + i``.
        base: position of the first row.
        prompt: the session's prompt.
        generated: its generated tokens, at least ``base + n - 1``; row i sees the first ``base + i`` of them, the last
            of which may be unchecked candidates. Not needed where ``sampling.uses_history`` is False.
        sampling: how to choose.
    """

    num_rows: int
    base: Position
    prompt: Sequence[TokenId]
    generated: Sequence[TokenId]
    sampling: Sampling


def pick(logits: torch.Tensor, requests: Sequence[PickRequest]) -> torch.Tensor:
    """Choose one token per row, on the logits' device and without waiting for it.

    Args:
        logits: ``[R, V]``, any float dtype: the rows of the requests one after another; further ones are ignored.
        requests: whose rows they are.

    Returns:
        ``[R]`` token ids. Equal scores go to the lowest id.
    """
    picks = logits[: sum(request.num_rows for request in requests)].argmax(dim=-1)
    first = 0
    for request in requests:
        if request.num_rows and not request.sampling.is_plain_greedy:
            rows = slice(first, first + request.num_rows)
            picks[rows] = _choose(logits[rows], request)
        first += request.num_rows
    return picks


def by_request(picks: torch.Tensor, requests: Sequence[PickRequest]) -> list[list[TokenId]]:
    """What ``pick`` chose, as one list per request; waits for the device."""
    flat = iter(picks.tolist())
    return [[TokenId(token) for token in islice(flat, request.num_rows)] for request in requests]


def _choose(logits: torch.Tensor, request: PickRequest) -> torch.Tensor:
    """Token ids ``[n]`` for logits ``[n, V]``."""
    sampling = request.sampling
    scores = _penalize(logits.float(), request)
    if not sampling.is_greedy:
        scores = warp(scores, sampling).double()
        keys = [noise_key(sampling.seed, Position(request.base + row)) for row in range(scores.shape[0])]
        scores += gumbel_noise(keys, scores.shape[1], device=scores.device)
    return scores.argmax(dim=-1)


def warp(scores: torch.Tensor, sampling: Sampling) -> torch.Tensor:
    """Temperature, then top-k, top-p and min-p; ``[n, V]`` float32, what is cut off becomes -inf."""
    warpers = LogitsProcessorList(
        [TemperatureLogitsWarper(float(max(sampling.temperature, _LOWEST_TEMPERATURE)))]
    )
    if sampling.top_k:
        warpers.append(TopKLogitsWarper(sampling.top_k))
    if sampling.top_p < 1.0:
        warpers.append(TopPLogitsWarper(sampling.top_p))
    if sampling.min_p:
        warpers.append(MinPLogitsWarper(sampling.min_p))
    no_ids = torch.LongTensor()  # none of the warpers looks at the history
    warped: torch.Tensor = warpers(no_ids, scores)
    return warped


def gumbel_noise(keys: Sequence[int], vocab_size: int, *, device: torch.device) -> torch.Tensor:
    """Standard Gumbel noise ``[len(keys), vocab_size]`` float64; ``protocol.noise.gumbel`` for all ids at once."""
    uniforms = uniform_noise(keys, vocab_size, device=device)
    return uniforms.log_().neg_().log_().neg_()


def uniform_noise(keys: Sequence[int], vocab_size: int, *, device: torch.device) -> torch.Tensor:
    """``protocol.noise.uniform`` for all ids at once, bit for bit: ``[len(keys), vocab_size]`` float64."""
    first = _moved([_signed(key) for key in keys], torch.int64, device)
    steps = torch.arange(1, vocab_size + 1, dtype=torch.int64, device=device).mul_(_signed(GOLDEN))
    word = first[:, None] + steps[None, :]
    word = (word ^ _shift_right(word, 30)).mul_(_signed(MULTIPLIER_1))
    word = (word ^ _shift_right(word, 27)).mul_(_signed(MULTIPLIER_2))
    word = word ^ _shift_right(word, 31)
    return _shift_right(word, 64 - UNIFORM_BITS).double().add_(0.5).mul_(2.0**-UNIFORM_BITS)


def _shift_right(word: torch.Tensor, bits: int) -> torch.Tensor:
    # torch shifts the sign in; masking it off makes the shift logical.
    return (word >> bits).bitwise_and_((1 << (64 - bits)) - 1)


def _signed(word: int) -> int:
    """The 64-bit pattern of ``word`` as int64, whose sums and products wrap alike."""
    return (word + 2**63) % 2**64 - 2**63


def _penalize(scores: torch.Tensor, request: PickRequest) -> torch.Tensor:
    """Scores ``[n, V]`` after the penalties of a session's history, of which each row sees one token more than the last."""
    sampling = request.sampling
    if sampling.logit_bias:
        scores = _add_bias(scores, sampling)
    if not sampling.uses_history:
        return scores
    said = _counts(request.generated[: request.base], like=scores).expand(len(scores), -1).clone()
    for index, token in enumerate(request.generated[request.base : request.base + len(scores) - 1]):
        if token < scores.shape[1]:
            said[index + 1 :, token] += 1
    if sampling.repetition_penalty != 1.0:
        seen = (said > 0) | (_counts(request.prompt, like=scores) > 0)
        penalty = float(sampling.repetition_penalty)
        scores = torch.where(seen, torch.where(scores < 0, scores * penalty, scores / penalty), scores)
    if sampling.presence_penalty or sampling.frequency_penalty:
        scores = scores - sampling.frequency_penalty * said - sampling.presence_penalty * (said > 0)
    return scores


def _counts(tokens: Sequence[TokenId], *, like: torch.Tensor) -> torch.Tensor:
    """``[V]``: how often each id occurs among ``tokens``."""
    ids = _moved(
        [token for token in tokens if token < like.shape[1]], torch.long, like.device
    )  # see _add_bias
    counts = torch.zeros(like.shape[1], dtype=like.dtype, device=like.device)
    return counts.index_add_(0, ids, torch.ones_like(ids, dtype=like.dtype))


def _add_bias(scores: torch.Tensor, sampling: Sampling) -> torch.Tensor:
    # A draft's vocabulary may be padded to another size than the target's: ids that it has not, it cannot say.
    known = [(token, bias) for token, bias in sampling.logit_bias if token < scores.shape[1]]
    ids = _moved([token for token, _ in known], torch.long, scores.device)
    biases = _moved([bias for _, bias in known], scores.dtype, scores.device)
    return scores.index_add(1, ids, biases.expand(scores.shape[0], -1))


def _moved(values: Sequence[float], dtype: torch.dtype, device: torch.device) -> torch.Tensor:
    """A tensor on the device, without waiting for what it computes."""
    here = torch.tensor(values, dtype=dtype)
    return here if device.type == "cpu" else here.pin_memory().to(device, non_blocking=True)
