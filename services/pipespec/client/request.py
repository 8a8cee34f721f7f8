"""What a client asks for, free of the transport. Ranges are checked by the gateway."""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Self, TypedDict

from pipespec.ops.errors import RequestError

SAMPLING = (
    "temperature",
    "top_p",
    "top_k",
    "min_p",
    "seed",
    "repetition_penalty",
    "presence_penalty",
    "frequency_penalty",
    "logit_bias",
)


class Options(TypedDict, total=False):
    """Keyword arguments of ``generate`` and ``stream``; all may be left out.

    ``temperature`` is 1 unless set, 0 is greedy. ``timeout_s`` bounds the whole request. ``request_id`` is made up
    unless set; ``cancel`` takes it. ``resumable`` lets the generation outlive a lost connection for a while: the stream
    then connects again and goes on by itself.
    """

    request_id: str
    model: str
    max_tokens: int
    temperature: float
    top_p: float
    top_k: int
    min_p: float
    seed: int
    repetition_penalty: float
    presence_penalty: float
    frequency_penalty: float
    logit_bias: Mapping[int, float]
    stop: str | Sequence[str]
    speculate: bool
    ignore_eos: bool
    include_stats: bool
    timeout_s: float
    resumable: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One request.

    Attributes:
        text, token_ids, messages: the prompt; exactly one is set. Messages are pairs of role and content.
        sampling: the sampling parameters that were given, by name.
        timeout_s: of the whole request; None leaves it to the gateway.
    """

    text: str | None = None
    token_ids: tuple[int, ...] | None = None
    messages: tuple[tuple[str, str], ...] | None = None
    request_id: str = field(default_factory=lambda: uuid.uuid4().hex)
    model: str | None = None
    max_tokens: int | None = None
    sampling: Mapping[str, Any] = field(default_factory=dict)
    stop: tuple[str, ...] = ()
    speculate: bool = True
    ignore_eos: bool = False
    include_stats: bool = False
    timeout_s: float | None = None
    resumable: bool = False

    @classmethod
    def of(
        cls,
        text: str | None,
        *,
        messages: Sequence[Mapping[str, str]] | None,
        token_ids: Sequence[int] | None,
        options: Options,
    ) -> Self:
        """The request that the arguments of ``generate`` describe.

        Raises:
            RequestError: not exactly one prompt is given, or a message lacks its role or content.
        """
        if sum(prompt is not None for prompt in (text, messages, token_ids)) != 1:
            raise RequestError(
                "expected exactly one of a text prompt, messages and token_ids",
                code="invalid_value",
                param="prompt",
            )
        given: dict[str, Any] = dict(options)
        sampling = {name: given.pop(name) for name in SAMPLING if name in given}
        stop = given.pop("stop", ())
        return cls(
            text=text,
            token_ids=None if token_ids is None else tuple(token_ids),
            messages=None if messages is None else tuple(_pair(message) for message in messages),
            sampling=sampling,
            stop=(stop,) if isinstance(stop, str) else tuple(stop),
            **given,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Resumption:
    """The rest of a resumable stream.

    Attributes:
        resume_id: of the last event that was received, or the stream's name.
        request_id: of this attempt.
        timeout_s: of the rest; None leaves it to the gateway.
    """

    resume_id: str
    request_id: str = field(default_factory=lambda: uuid.uuid4().hex)
    timeout_s: float | None = None


def _pair(message: Mapping[str, str]) -> tuple[str, str]:
    if set(message) != {"role", "content"}:
        raise RequestError(
            f"a message has the keys {sorted(message)}; expected role and content",
            code="invalid_value",
            param="messages",
        )
    return message["role"], message["content"]
