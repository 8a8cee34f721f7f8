"""A stage without a model that takes the time of one: words from the hash language, milliseconds from a latency curve.

Asynchronous as a GPU is: while a step lasts, what is to be done beside it is done, then the thread sleeps until the
moment at which the device would be ready.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import Random

from pipespec.emulation.curve import LatencyCurve
from pipespec.emulation.speaker import Speaker
from pipespec.emulation.words import HashLanguage
from pipespec.ops.errors import InvariantBroken
from pipespec.protocol.ids import SessionId, TokenId
from pipespec.protocol.sampling import Sampling
from pipespec.protocol.work import CacheUse, Outcome, Work, idle

_WAKE_UP_S = 100e-6
"""A sleeper is woken about so late (timer slack and scheduling); the rest, if any, is spun away: under 1 % of a core."""


@dataclass(frozen=True, slots=True)
class EmulatedLimits:
    """What one step takes, and what a session may hold; as of ``Engine``."""

    max_batch: int
    max_chunk: int
    max_step_tokens: int
    vocab_size: int
    context_len: int


class Device:
    """Says when a step of an emulated device ends.

    Args:
        curve: milliseconds of a step.
        jitter: standard deviation of a step's time, as a fraction of it.
        seed: of the jitter.
        clock: seconds, monotonic.
        sleep: for so many seconds.
    """

    def __init__(
        self,
        curve: LatencyCurve,
        *,
        jitter: float = 0.0,
        seed: int = 0,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._curve = curve
        self._jitter = jitter
        self._random = Random(seed)  # noqa: S311 - nothing secret
        self._clock = clock
        self._sleep = sleep

    def launch(self, *, num_tokens: int, num_sessions: int) -> float:
        """Start a step; the time at which it ends."""
        seconds = self._curve.ms(num_tokens, num_sessions) / 1000
        if self._jitter:
            seconds *= max(0.0, self._random.gauss(1.0, self._jitter))
        return self._clock() + seconds

    def wait_until(self, end_s: float) -> None:
        """Return at ``end_s``, not before. ``time.sleep`` sleeps until an absolute time, so nothing adds up."""
        early_s = end_s - self._clock() - _WAKE_UP_S
        if early_s > 0:
            self._sleep(early_s)
        while self._clock() < end_s:
            pass


class EmulatedEngine:
    """An ``Engine`` whose picks are words of a language.

    Args:
        language: of the chain, or of the part of it that begins with this stage.
        rank: of this stage, as ``language`` counts.
        device: takes the time.
        limits: of steps and sessions.
    """

    is_model_free = False
    cache_use = CacheUse()

    def __init__(
        self, language: HashLanguage, *, rank: int = 0, device: Device, limits: EmulatedLimits
    ) -> None:
        self.max_batch = limits.max_batch
        self.max_chunk = limits.max_chunk
        self.max_step_tokens = limits.max_step_tokens
        self.vocab_size = limits.vocab_size
        self.context_len = limits.context_len
        self._speaker = Speaker(language, rank=rank)
        self._device = device

    def open(self, session: SessionId, *, prompt: Sequence[TokenId], sampling: Sampling) -> None:
        """Start a session that holds nothing yet; ``prompt`` comes again as work."""
        del prompt
        self._speaker.open(session, sampling)

    def close(self, session: SessionId) -> None:
        """Forget a session."""
        self._speaker.close(session)

    def step(self, batch: Sequence[Work], *, meanwhile: Callable[[], None] = idle) -> list[Outcome]:
        """Take as long as the device would, and say what the stage says."""
        num_tokens = sum(len(work.tokens) for work in batch)
        end_s = self._device.launch(num_tokens=num_tokens, num_sessions=len(batch))
        meanwhile()
        for work in batch:
            self._check(work)
        outcomes = [self._speaker.answer(work) for work in batch]
        self._device.wait_until(end_s)
        return outcomes

    def _check(self, work: Work) -> None:
        """That the work fits the session and the stage.

        Raises:
            InvariantBroken: it does not.
        """
        name, end = work.session.hex(), work.start + len(work.tokens)
        if work.session not in self._speaker:
            raise InvariantBroken(f"work for session {name}, which is not open")
        if not work.num_candidates < len(work.tokens) <= self.max_chunk:
            raise InvariantBroken(
                f"session {name}: expected 1 to {self.max_chunk} tokens, more than the {work.num_candidates} "
                f"candidates; got {len(work.tokens)}"
            )
        if end > self.context_len:
            raise InvariantBroken(f"session {name}: {end} tokens, the context is {self.context_len}")
        if max(work.tokens) >= self.vocab_size:
            raise InvariantBroken(
                f"session {name}: token {max(work.tokens)}, the vocabulary has {self.vocab_size}"
            )
