"""The oracle: an engine with a ``DynamicCache`` per session and one forward pass per session, as slow as it is simple.

It is the specification that the paged engine has to meet, and what benchmarks compare it with.

Shape symbols: T = tokens fed, n = picks, V = vocabulary.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from transformers import DynamicCache, PreTrainedConfig, PreTrainedModel
from transformers.cache_utils import DynamicLayer, DynamicSlidingWindowLayer

from pipespec.engine.checkpoint import vocab_size
from pipespec.engine.sampler import PickRequest, pick
from pipespec.protocol.ids import SessionId, TokenId
from pipespec.protocol.sampling import Sampling
from pipespec.protocol.work import CacheUse, Outcome, Work, idle


@dataclass(slots=True)
class _OracleSession:
    """``tokens`` are prompt and generated; the cache holds the first ``len(tokens)`` of them, all that were fed."""

    prompt: tuple[TokenId, ...]
    sampling: Sampling
    cache: DynamicCache
    tokens: list[TokenId] = field(default_factory=list)


class OracleEngine:
    """An ``Engine`` over a loaded model.

    Args:
        model: in evaluation mode, on its device.
        context_len: tokens that a session may hold.
        max_chunk: tokens of one session that one step takes.
    """

    max_batch = 64
    is_model_free = False
    cache_use = CacheUse()

    def __init__(self, model: PreTrainedModel, *, context_len: int, max_chunk: int) -> None:
        self.context_len = context_len
        self.max_chunk = self.max_step_tokens = max_chunk
        self.vocab_size = vocab_size(model)
        self._model = model
        self._keeps_logits = "logits_to_keep" in inspect.signature(model.forward).parameters
        self._sessions: dict[SessionId, _OracleSession] = {}

    def open(self, session: SessionId, *, prompt: Sequence[TokenId], sampling: Sampling) -> None:
        """Start a session with an empty cache."""
        cache = new_cache(self._model.config)
        self._sessions[session] = _OracleSession(tuple(prompt), sampling, cache)

    @torch.inference_mode()
    def step(self, batch: Sequence[Work], *, meanwhile: Callable[[], None] = idle) -> list[Outcome]:
        """Run one forward pass per item."""
        meanwhile()
        return [self._step_one(work) for work in batch]

    def close(self, session: SessionId) -> None:
        """Free a session's cache."""
        self._sessions.pop(session, None)

    def _step_one(self, work: Work) -> Outcome:
        session = self._sessions[work.session]
        crop(session.cache, work.start)
        del session.tokens[work.start :]
        session.tokens.extend(work.tokens)
        num_picks = min(work.room, work.num_candidates + 1)
        logits = self._forward(session.cache, work.tokens, num_rows=work.num_candidates + 1)
        request = PickRequest(
            num_rows=num_picks,
            base=work.base,
            prompt=session.prompt,
            generated=session.tokens[len(session.prompt) :],
            sampling=session.sampling,
        )
        return Outcome(pick(logits[:num_picks], [request]).tolist(), held=len(session.tokens))

    def _forward(self, cache: DynamicCache, tokens: Sequence[TokenId], *, num_rows: int) -> torch.Tensor:
        """Logits ``[num_rows, V]`` after the last ``num_rows`` of ``tokens``, which are added to the cache."""
        input_ids = torch.tensor([tokens], dtype=torch.long, device=self._model.device)
        keep = {"logits_to_keep": num_rows} if self._keeps_logits else {}
        output = self._model(input_ids=input_ids, past_key_values=cache, use_cache=True, **keep)
        logits: torch.Tensor = output.logits[0, -num_rows:]
        return logits


def new_cache(config: PreTrainedConfig) -> DynamicCache:
    """An empty cache in which every layer keeps all entries: a sliding one would lose what a rollback needs."""
    cache = DynamicCache(config=config)
    for index, layer in enumerate(cache.layers):
        if type(layer) is DynamicSlidingWindowLayer:
            cache.layers[index] = DynamicLayer()
    return cache


def crop(cache: DynamicCache, length: int) -> None:
    """Cut the cache back to its first ``length`` entries; ``length`` is at most what it holds."""
    surplus = cache.get_seq_length() - length
    if surplus > 0:
        cache.crop(-surplus)
