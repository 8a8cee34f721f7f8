"""Request bodies of the two endpoints, strictly typed.

Ranges of sampling parameters are checked where they live, in ``Sampling``. ``stream_options``, ``user`` and all
sampling parameters mean what OpenAI's API reference says (temperature 1 unless set); our extensions are ``top_k``,
``min_p``, ``repetition_penalty``, ``speculate``, ``ignore_eos``, ``include_stats``, ``return_token_ids`` and ``resumable``.
"""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PlainValidator

from pipespec.gateway.generation import ChatPrompt, GenerationRequest, Prompt, TextPrompt, TokenPrompt
from pipespec.gateway.generation.request import (
    DEFAULT_TEMPERATURE,
    MAX_CHOICES,
    MAX_PROMPTS,
    MAX_STOP_CHARS,
    MAX_STOP_STRINGS,
)
from pipespec.gateway.text import ChatMessage
from pipespec.ops.errors import RequestError
from pipespec.protocol.ids import TokenId
from pipespec.protocol.sampling import MAX_LOGIT_BIAS, Sampling

_TOKEN_KEY = re.compile(r"0|[1-9][0-9]{0,9}")

# What the validators below take, for the OpenAPI document; they check it themselves.
_StopText = Annotated[str, Field(min_length=1, max_length=MAX_STOP_CHARS)]
_Stop = _StopText | Annotated[list[_StopText], Field(max_length=MAX_STOP_STRINGS)]
_Token = Annotated[int, Field(ge=0, lt=2**32)]
_Tokens = Annotated[list[_Token], Field(min_length=1)]
_Prompts = (
    Annotated[str, Field(min_length=1)]
    | _Tokens
    | Annotated[list[str], Field(min_length=1, max_length=MAX_PROMPTS)]
    | Annotated[list[_Tokens], Field(min_length=1, max_length=MAX_PROMPTS)]
)
_Bias = Annotated[
    dict[
        Annotated[str, Field(pattern=f"^({_TOKEN_KEY.pattern})$")], Annotated[float, Field(ge=-100, le=100)]
    ],
    Field(max_length=MAX_LOGIT_BIAS, json_schema_extra={"additionalProperties": False, "default": {}}),
]


def _as_strings(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


def _as_prompts(value: Any) -> tuple[Prompt, ...]:
    if isinstance(value, str):
        return (TextPrompt(value),)
    if isinstance(value, list) and value:
        if all(type(item) is int for item in value):
            return (TokenPrompt(tuple(TokenId(item) for item in value)),)
        if len(value) > MAX_PROMPTS:
            raise ValueError(f"expected at most {MAX_PROMPTS} prompts")
        if all(isinstance(item, str) for item in value):
            return tuple(TextPrompt(item) for item in value)
        if all(isinstance(item, list) and item and all(type(id_) is int for id_ in item) for item in value):
            return tuple(TokenPrompt(tuple(TokenId(id_) for id_ in item)) for item in value)
    raise ValueError(
        "expected a string, a list of strings, a list of token ids or a list of such lists, none empty"
    )


def _as_bias(value: Any) -> tuple[tuple[int, float], ...]:
    if not isinstance(value, dict) or len(value) > MAX_LOGIT_BIAS:
        raise ValueError(f"expected an object of at most {MAX_LOGIT_BIAS} token ids and numbers")
    pairs = []
    for key, bias in value.items():
        if not _TOKEN_KEY.fullmatch(key) or type(bias) not in (int, float):
            raise ValueError("expected token ids (decimal) as keys and numbers as values")
        pairs.append((int(key), bias))
    return tuple(sorted(pairs))


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)


class StreamOptions(_Body):
    """``stream_options``."""

    include_usage: bool = False


class GenerationBody(_Body):
    """What both endpoints take."""

    model: str
    stream: bool = False
    stream_options: StreamOptions | None = None
    n: int = Field(default=1, ge=1, le=MAX_CHOICES)
    max_tokens: int | None = Field(default=None, ge=1, lt=2**31)
    stop: Annotated[list[str], BeforeValidator(_as_strings, json_schema_input_type=_Stop)] = []
    seed: int | None = Field(default=None, ge=-(2**63), lt=2**64)
    user: str | None = None
    temperature: float = DEFAULT_TEMPERATURE
    top_p: float = 1.0
    top_k: int = 0
    min_p: float = 0.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    repetition_penalty: float = 1.0
    logit_bias: Annotated[
        tuple[tuple[int, float], ...], PlainValidator(_as_bias, json_schema_input_type=_Bias)
    ] = ()
    speculate: bool = True
    ignore_eos: bool = False
    include_stats: bool = False
    return_token_ids: bool = False
    resumable: bool = False
    timeout_s: float | None = Field(default=None, gt=0, allow_inf_nan=False)

    @property
    def includes_usage(self) -> bool:
        """Whether a stream ends with a chunk that carries the usage."""
        return self.stream_options is not None and self.stream_options.include_usage

    def to_request(self, request_id: str) -> GenerationRequest:
        """The same in the gateway's own words.

        Raises:
            RequestError: a value is out of range.
        """
        if self.stream_options is not None and not self.stream:
            raise RequestError(
                "stream_options is given, but stream is not true; leave it out",
                code="invalid_value",
                param="stream_options",
            )
        if self.resumable and not self.stream:
            raise RequestError(
                "resumable is true, but stream is not; only streams can be resumed",
                code="invalid_value",
                param="resumable",
            )
        return GenerationRequest(
            request_id=request_id,
            prompts=self._prompts(),
            sampling=self._sampling(),
            max_tokens=self._max_tokens(),
            seed=None if self.seed is None else self.seed % 2**64,
            stop=tuple(self.stop),
            n=self.n,
            speculate=self.speculate,
            ignore_eos=self.ignore_eos,
            include_stats=self.include_stats,
            timeout_s=self.timeout_s,
        )

    def _sampling(self) -> Sampling:
        return Sampling(
            temperature=self.temperature,
            top_p=self.top_p,
            top_k=self.top_k,
            min_p=self.min_p,
            presence_penalty=self.presence_penalty,
            frequency_penalty=self.frequency_penalty,
            repetition_penalty=self.repetition_penalty,
            logit_bias=self.logit_bias,
        )

    def _prompts(self) -> tuple[Prompt, ...]:
        raise NotImplementedError

    def _max_tokens(self) -> int | None:
        return self.max_tokens


class CompletionBody(GenerationBody):
    """``POST /v1/completions``."""

    prompt: Annotated[tuple[Prompt, ...], PlainValidator(_as_prompts, json_schema_input_type=_Prompts)]

    def _prompts(self) -> tuple[Prompt, ...]:
        return self.prompt


class TextPart(_Body):
    """One part of a message's content."""

    type: Literal["text"]
    text: str


def _without_nulls(value: Any) -> Any:
    return (
        {key: item for key, item in value.items() if item is not None} if isinstance(value, dict) else value
    )


class Message(_Body):
    """One message; ``developer`` is another word for ``system``, text parts are joined by line ends."""

    role: Literal["system", "developer", "user", "assistant"]
    content: str | list[TextPart]

    def to_chat(self) -> ChatMessage:
        """The same in the gateway's own words."""
        role = "system" if self.role == "developer" else self.role
        text = (
            self.content if isinstance(self.content, str) else "\n".join(part.text for part in self.content)
        )
        return ChatMessage(role, text)


class ChatBody(GenerationBody):
    """``POST /v1/chat/completions``."""

    messages: list[Annotated[Message, BeforeValidator(_without_nulls)]] = Field(min_length=1)
    max_completion_tokens: int | None = Field(default=None, ge=1, lt=2**31)

    def _prompts(self) -> tuple[Prompt, ...]:
        return (ChatPrompt(tuple(message.to_chat() for message in self.messages)),)

    def _max_tokens(self) -> int | None:
        if self.max_tokens is not None and self.max_completion_tokens is not None:
            raise RequestError(
                "max_tokens and max_completion_tokens are given; leave out max_tokens",
                code="invalid_value",
                param="max_tokens",
            )
        return self.max_tokens if self.max_completion_tokens is None else self.max_completion_tokens
