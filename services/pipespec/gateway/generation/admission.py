"""Checks a request against the model before anything is opened or streamed.

Produces one plan per choice. What does not fit is refused, never cut: prompt + ``max_tokens`` stay inside the context,
ids stay inside the vocabulary.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Sequence
from dataclasses import dataclass, replace

from pipespec.gateway.backend import Backend
from pipespec.gateway.generation.request import ChatPrompt, GenerationRequest, Prompt, TextPrompt, TokenPrompt
from pipespec.gateway.text import TextModel
from pipespec.ops.errors import RequestError, Unavailable
from pipespec.protocol.ids import TokenId
from pipespec.protocol.noise import branch_seed
from pipespec.protocol.sampling import Sampling


@dataclass(frozen=True, slots=True)
class Plan:
    """One choice, ready to be opened."""

    prompt: tuple[TokenId, ...]
    sampling: Sampling


class Admission:
    """The checks, for one model.

    Args:
        backend: its context and vocabulary bound what is asked.
        text: tokenizes prompts, off the event loop.
        default_max_tokens: of requests that name none.
    """

    def __init__(self, *, backend: Backend, text: TextModel, default_max_tokens: int) -> None:
        self._backend = backend
        self._text = text
        self._default_max_tokens = default_max_tokens

    async def plan(self, request: GenerationRequest) -> list[Plan]:
        """Plans of all choices, ``n`` for each prompt in order.

        Raises:
            RequestError: something does not fit; ``context_length_exceeded`` or ``invalid_value``.
            Unavailable: no target was heard of yet, so nothing can be checked.
        """
        if self._backend.vocab_size == 0:
            raise Unavailable.no_target()
        self._check_bias(request.sampling)
        seed = secrets.randbits(64) if request.seed is None else request.seed
        plans = []
        for prompt in request.prompts:
            ids = await self._ids(prompt)
            max_tokens = self._max_tokens(len(ids), request.max_tokens)
            for choice in range(request.n):
                sampling = replace(
                    request.sampling,
                    max_tokens=max_tokens,
                    seed=branch_seed(seed, choice),
                    stop_ids=() if request.ignore_eos else self._text.stop_ids,
                )
                plans.append(Plan(ids, sampling))
        return plans

    async def _ids(self, prompt: Prompt) -> tuple[TokenId, ...]:
        match prompt:
            case TokenPrompt(ids):
                self._check_ids(ids)
                return ids
            case TextPrompt(text):
                self._check_context(self._text.min_tokens(text), at_least=True)
                encoded = await asyncio.to_thread(self._text.encode, text)
            case ChatPrompt(messages):
                size = sum(self._text.min_tokens(message.content) for message in messages)
                self._check_context(size, at_least=True)
                encoded = await asyncio.to_thread(self._text.render_chat, messages)
        return tuple(TokenId(token) for token in encoded)

    def _max_tokens(self, num_prompt: int, asked: int | None) -> int:
        if num_prompt == 0:
            raise RequestError(
                "the prompt is empty; expected at least one token", code="invalid_value", param="prompt"
            )
        self._check_context(num_prompt)
        left = self._backend.context_len - num_prompt
        if asked is None:
            return min(self._default_max_tokens, left)
        if asked > left:
            raise RequestError(
                f"this model's context is {self._backend.context_len} tokens, but {num_prompt + asked} were asked for: "
                f"{num_prompt} of the prompt and {asked} of max_tokens; shorten either",
                code="context_length_exceeded",
                param="max_tokens",
            )
        return asked

    def _check_context(self, num_prompt: int, *, at_least: bool = False) -> None:
        if num_prompt >= self._backend.context_len:
            raise RequestError(
                f"this model's context is {self._backend.context_len} tokens, but the prompt alone has "
                f"{'at least ' if at_least else ''}{num_prompt}; shorten it",
                code="context_length_exceeded",
                param="prompt",
            )

    def _check_ids(self, ids: Sequence[TokenId]) -> None:
        vocab_size = self._backend.vocab_size
        for token in ids:
            if not 0 <= token < vocab_size:
                raise RequestError(
                    f"token id {token} is not in the vocabulary; allowed: 0 to {vocab_size - 1}",
                    code="invalid_value",
                    param="prompt",
                )

    def _check_bias(self, sampling: Sampling) -> None:
        vocab_size = self._backend.vocab_size
        for token, _ in sampling.logit_bias:
            if token >= vocab_size:
                raise RequestError(
                    f"logit_bias names token id {token}, which is not in the vocabulary; allowed: 0 to {vocab_size - 1}",
                    code="invalid_value",
                    param="logit_bias",
                )
