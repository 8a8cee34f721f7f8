"""The plain engine: any Hugging Face causal language model, one session per step.

Every session has a key-value cache of its own, cut back to where the work starts and then extended by one forward
pass. It is the specification that a batched engine has to meet: in float32 its picks are those of transformers'
``generate``.

Shape symbols: T = tokens fed, n = picks, V = vocabulary.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from transformers import DynamicCache, PreTrainedModel

from pipespec.engine.checkpoint import vocab_size
from pipespec.engine.kv_cache import crop, new_cache
from pipespec.engine.sampler import pick
from pipespec.ops.errors import InvariantBroken
from pipespec.protocol.ids import SessionId, TokenId
from pipespec.protocol.sampling import Sampling
from pipespec.protocol.work import Work


@dataclass(slots=True)
class _PlainSession:
    """``tokens`` are prompt and generated; the cache holds the first ``len(tokens)`` of them, all that were fed."""

    prompt: tuple[TokenId, ...]
    sampling: Sampling
    cache: DynamicCache
    tokens: list[TokenId] = field(default_factory=list)


class PlainEngine:
    """An ``Engine`` over a loaded model.

    Args:
        model: in evaluation mode, on its device.
        context_len: tokens that a session may hold.
        max_chunk: tokens of one session that one step takes.
    """

    max_batch = 1
    is_model_free = False

    def __init__(self, model: PreTrainedModel, *, context_len: int, max_chunk: int) -> None:
        self.context_len = context_len
        self.max_chunk = max_chunk
        self.vocab_size = vocab_size(model)
        self._model = model
        self._keeps_logits = "logits_to_keep" in inspect.signature(model.forward).parameters
        self._sessions: dict[SessionId, _PlainSession] = {}

    def open(self, session: SessionId, *, prompt: Sequence[TokenId], sampling: Sampling) -> None:
        """Start a session with an empty cache."""
        cache = new_cache(self._model.config)
        self._sessions[session] = _PlainSession(tuple(prompt), sampling, cache)

    @torch.inference_mode()
    def step(self, batch: Sequence[Work]) -> list[list[TokenId]]:
        """Run one forward pass per item."""
        return [self._step_one(work) for work in batch]

    def close(self, session: SessionId) -> None:
        """Free a session's cache."""
        self._sessions.pop(session, None)

    def _step_one(self, work: Work) -> list[TokenId]:
        session = self._checked(work)
        crop(session.cache, work.start)
        del session.tokens[work.start :]
        session.tokens.extend(work.tokens)
        num_picks = min(work.room, work.num_candidates + 1)
        logits = self._forward(session.cache, work.tokens, num_rows=work.num_candidates + 1)
        if num_picks == 0:
            return []
        return pick(
            logits[:num_picks],
            base=work.base,
            prompt=session.prompt,
            generated=session.tokens[len(session.prompt) :],
            sampling=session.sampling,
        )

    def _forward(self, cache: DynamicCache, tokens: Sequence[TokenId], *, num_rows: int) -> torch.Tensor:
        """Logits ``[num_rows, V]`` after the last ``num_rows`` of ``tokens``, which are added to the cache."""
        input_ids = torch.tensor([tokens], dtype=torch.long, device=self._model.device)
        keep = {"logits_to_keep": num_rows} if self._keeps_logits else {}
        output = self._model(input_ids=input_ids, past_key_values=cache, use_cache=True, **keep)
        logits: torch.Tensor = output.logits[0, -num_rows:]
        return logits

    def _checked(self, work: Work) -> _PlainSession:
        """The work's session.

        Raises:
            InvariantBroken: the work does not fit the session or the model.
        """
        name = work.session.hex()
        session = self._sessions.get(work.session)
        if session is None:
            raise InvariantBroken(f"work for session {name}, which is not open")
        if work.start > len(session.tokens):
            raise InvariantBroken(
                f"session {name}: work starts at {work.start}, the cache holds {len(session.tokens)} tokens"
            )
        if not work.num_candidates < len(work.tokens) <= self.max_chunk:
            raise InvariantBroken(
                f"session {name}: expected 1 to {self.max_chunk} tokens, more than the {work.num_candidates} "
                f"candidates; got {len(work.tokens)}"
            )
        if work.start + len(work.tokens) > self.context_len:
            raise InvariantBroken(
                f"session {name}: {work.start + len(work.tokens)} tokens, the context is {self.context_len}"
            )
        if max(work.tokens) >= self.vocab_size:
            raise InvariantBroken(
                f"session {name}: token {max(work.tokens)}, the vocabulary has {self.vocab_size}"
            )
        return session
