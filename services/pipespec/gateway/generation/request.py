"""One client request, free of the protocol that it came by.

Built by the adapters, which have checked types; ranges are checked here and in ``Sampling``, and what depends on the
model (context, vocabulary) when the generation is started.
"""

from __future__ import annotations

import re
import uuid
from dataclasses import dataclass, field
from sys import getsizeof

from pipespec.gateway.text import ChatMessage
from pipespec.ops.errors import RequestError
from pipespec.protocol.ids import TokenId
from pipespec.protocol.sampling import Sampling

DEFAULT_TEMPERATURE = 1.0
"""The model's own distribution, as OpenAI does it; 0 is greedy."""

MAX_PROMPTS = 32
MAX_CHOICES = 4
MAX_STOP_STRINGS = 4
MAX_STOP_CHARS = 256

_TOKEN_BYTES = 36
"""An integer and its place in a tuple."""
_REQUEST_ID = re.compile(r"[A-Za-z0-9._:/-]{1,128}")


def new_request_id() -> str:
    """A fresh random id."""
    return uuid.uuid4().hex


def is_request_id(text: str) -> bool:
    """Whether a client may call its request so."""
    return _REQUEST_ID.fullmatch(text) is not None


@dataclass(frozen=True, slots=True)
class TextPrompt:
    """Raw text; special tokens in it are read as such."""

    text: str


@dataclass(frozen=True, slots=True)
class TokenPrompt:
    """Token ids, taken as they are."""

    ids: tuple[TokenId, ...]


@dataclass(frozen=True, slots=True)
class ChatPrompt:
    """A conversation, for the model's chat template; special tokens in it are only text."""

    messages: tuple[ChatMessage, ...]


Prompt = TextPrompt | TokenPrompt | ChatPrompt


@dataclass(frozen=True, slots=True, kw_only=True)
class GenerationRequest:
    """What a client asks for.

    Attributes:
        request_id: unique among the active requests of its protocol.
        prompts: each is continued by itself; more than one only where the protocol has it.
        sampling: without ``max_tokens``, ``seed`` and ``stop_ids``, which are filled in at the start.
        max_tokens: None takes the gateway's default, or what the context leaves.
        seed: 64 bits; None draws one.
        stop: texts that end a choice.
        n: choices per prompt.
        speculate: False lets the target decode alone.
        ignore_eos: go on past the model's end of text, to ``max_tokens``.
        include_stats: report what the stages did.
        timeout_s: gives up earlier than the gateway does by itself.

    Raises:
        RequestError: a value is out of range; ``param`` names it.
    """

    prompts: tuple[Prompt, ...]
    request_id: str = field(default_factory=new_request_id)
    sampling: Sampling = field(default_factory=lambda: Sampling(temperature=DEFAULT_TEMPERATURE))
    max_tokens: int | None = None
    seed: int | None = None
    stop: tuple[str, ...] = ()
    n: int = 1
    speculate: bool = True
    ignore_eos: bool = False
    include_stats: bool = False
    timeout_s: float | None = None

    def __post_init__(self) -> None:
        """Check the ranges that do not depend on the model."""
        if not is_request_id(self.request_id):
            raise _refused(
                "request_id", self.request_id, "1 to 128 letters, digits, dots, dashes, colons, slashes"
            )
        if not 1 <= len(self.prompts) <= MAX_PROMPTS:
            raise _refused("prompt", f"{len(self.prompts)} prompts", f"1 to {MAX_PROMPTS} of them")
        if not 1 <= self.n <= MAX_CHOICES:
            raise _refused("n", self.n, f"an integer from 1 to {MAX_CHOICES}")
        if self.max_tokens is not None and self.max_tokens < 1:
            raise _refused("max_tokens", self.max_tokens, "an integer from 1")
        if self.seed is not None and not 0 <= self.seed < 2**64:
            raise _refused("seed", self.seed, "a 64-bit integer")
        if self.timeout_s is not None and not self.timeout_s > 0:
            raise _refused("timeout_s", self.timeout_s, "a number above 0")
        self._check_stop()

    @property
    def num_bytes(self) -> int:
        """What its prompts take in memory."""
        return sum(_num_bytes(prompt) for prompt in self.prompts)

    def _check_stop(self) -> None:
        if len(self.stop) > MAX_STOP_STRINGS:
            raise _refused("stop", f"{len(self.stop)} strings", f"at most {MAX_STOP_STRINGS}")
        for stop in self.stop:
            if not 1 <= len(stop) <= MAX_STOP_CHARS:
                raise _refused(
                    "stop", f"a string of {len(stop)} characters", f"1 to {MAX_STOP_CHARS} characters"
                )


def _num_bytes(prompt: Prompt) -> int:
    match prompt:
        case TextPrompt(text):
            return getsizeof(text)
        case TokenPrompt(ids):
            return _TOKEN_BYTES * len(ids)
        case ChatPrompt(messages):
            return sum(getsizeof(message.content) for message in messages)


def _refused(param: str, value: object, allowed: str) -> RequestError:
    return RequestError(
        f"{param} is {str(value)[:40]}; allowed: {allowed}", code="invalid_value", param=param
    )
