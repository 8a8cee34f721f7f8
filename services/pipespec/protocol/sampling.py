"""Sampling parameters of a session: what every stage must apply alike.

Travels in ``open``. All of these are functions of the prefix and the position, so every stage computes the same
thing from its own log and verification stays an equality test of token ids. What would need a distribution on the
wire, or state that a replica cannot rebuild from the log, has no field here and is refused by the gateway.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from pipespec.ops.errors import RequestError

MAX_LOGIT_BIAS = 300
MAX_STOP_IDS = 64


@dataclass(frozen=True, slots=True)
class Sampling:
    """How the next token is chosen from logits. Defaults are plain greedy decoding.

    Attributes:
        max_tokens: generated tokens at most, >= 1.
        temperature: 0 is argmax; else logits are divided by it, (0, 100].
        top_k: keep the k largest logits; 0 keeps all.
        top_p: keep the smallest set of tokens whose probability reaches it, (0, 1].
        min_p: keep tokens at least this fraction as probable as the best one, [0, 1].
        seed: 64 bits; with the position and the token id it fixes all noise of the session.
        repetition_penalty: (0, 10], 1 is none; over prompt and generated tokens (Keskar et al. 2019).
        presence_penalty: [-2, 2], subtracted once from tokens generated before (OpenAI).
        frequency_penalty: [-2, 2], subtracted per earlier occurrence among generated tokens (OpenAI).
        logit_bias: pairs (token id, bias in [-100, 100]), sorted by id, ids unique.
        stop_ids: token ids that end the session; the ending token is committed too.
    """

    max_tokens: int = 16
    temperature: float = 0.0
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0
    seed: int = 0
    repetition_penalty: float = 1.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    logit_bias: tuple[tuple[int, float], ...] = ()
    stop_ids: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        """Check every range.

        Raises:
            RequestError: a value is out of range; ``param`` names it.
        """
        _check_int("max_tokens", self.max_tokens, 1, 2**31 - 1)
        _check_float("temperature", self.temperature, 0.0, 100.0)
        _check_int("top_k", self.top_k, 0, 2**31 - 1)
        _check_float("top_p", self.top_p, 0.0, 1.0, low_open=True)
        _check_float("min_p", self.min_p, 0.0, 1.0)
        _check_int("seed", self.seed, 0, 2**64 - 1)
        _check_float("repetition_penalty", self.repetition_penalty, 0.0, 10.0, low_open=True)
        _check_float("presence_penalty", self.presence_penalty, -2.0, 2.0)
        _check_float("frequency_penalty", self.frequency_penalty, -2.0, 2.0)
        self._check_ids()

    def _check_ids(self) -> None:
        if len(self.logit_bias) > MAX_LOGIT_BIAS:
            raise _refused(
                "logit_bias", f"{len(self.logit_bias)} entries", f"at most {MAX_LOGIT_BIAS} entries"
            )
        last = -1
        for token, bias in self.logit_bias:
            _check_int("logit_bias", token, last + 1, 2**32 - 1)
            _check_float("logit_bias", bias, -100.0, 100.0)
            last = token
        if len(self.stop_ids) > MAX_STOP_IDS:
            raise _refused("stop_ids", f"{len(self.stop_ids)} ids", f"at most {MAX_STOP_IDS} ids")
        for token in self.stop_ids:
            _check_int("stop_ids", token, 0, 2**32 - 1)

    @property
    def is_greedy(self) -> bool:
        """No noise is drawn: temperature 0."""
        return self.temperature == 0.0

    @property
    def is_plain_greedy(self) -> bool:
        """The choice is the largest logit, as the model gave it."""
        return self.is_greedy and not self.uses_history and not self.logit_bias

    @property
    def uses_history(self) -> bool:
        """The choice depends on which tokens came before, not on the logits alone."""
        return self.repetition_penalty != 1.0 or self.presence_penalty != 0.0 or self.frequency_penalty != 0.0


def _refused(name: str, value: object, allowed: str) -> RequestError:
    return RequestError(f"{name} is {value}; allowed: {allowed}", code="invalid_value", param=name)


def _check_int(name: str, value: object, low: int, high: int) -> None:
    if type(value) is not int or not low <= value <= high:
        raise _refused(name, repr(value)[:40], f"an integer from {low} to {high}")


def _check_float(name: str, value: object, low: float, high: float, *, low_open: bool = False) -> None:
    allowed = f"a number {'above' if low_open else 'from'} {low} {'up ' if low_open else ''}to {high}"
    if type(value) not in (int, float) or not math.isfinite(value):  # type: ignore[arg-type]  # just checked
        raise _refused(name, repr(value)[:40], allowed)
    if not low <= value <= high or (low_open and value == low):  # type: ignore[operator]  # just checked
        raise _refused(name, repr(value)[:40], allowed)
