"""Models for the simulation: engines that say the words of the emulation's language, with the moods of real ones.

At times they give a session's cache away, find a prompt cached already, or, without a model, guess nothing. Target replicas
may fork: at some prefixes a replica's choice is its own, as that of another GPU may be.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from pipespec.emulation.words import HashLanguage, extend
from pipespec.protocol.ids import SessionId, TokenId
from pipespec.protocol.messages import Open
from pipespec.protocol.noise import GOLDEN, mix
from pipespec.protocol.work import Outcome, Work

VOCAB = 997
CONTEXT = 4096
_WORD = 2**64 - 1


@dataclass(frozen=True)
class Voices:
    """What every replica of a chain chooses.

    Attributes:
        language: of the chain.
        fork: probability that a target replica but the first disagrees, independently at every prefix.
    """

    language: HashLanguage
    fork: float = 0.0

    def pick(self, state: int, rank: int, index: int = 0) -> TokenId:
        """The choice of replica ``index`` of a stage after the prefix with this state."""
        word = self.language.pick(state, rank)
        if index and self.fork and rank == self.language.target:
            bits = mix((state + index * GOLDEN) & _WORD)
            if bits < self.fork * 2**64:
                return TokenId((word + 1 + bits % (self.language.vocab_size - 1)) % self.language.vocab_size)
        return word


def voices_of(agreements: Sequence[float], *, fork: float = 0.0, seed: int = 0) -> Voices:
    """What a chain says whose stages agree with the next as given; another seed is other weights."""
    return Voices(HashLanguage(seed=seed, vocab_size=VOCAB, agreements=tuple(agreements)), fork)


@dataclass
class HashModel:
    """An engine whose cache is a list of hash states, cropped and fed just as a real one.

    Every so many steps it gives a session's cache away, and every other prompt is found to be cached already.
    """

    voices: Voices
    rank: int
    index: int = 0
    is_model_free: bool = False
    has_moods: bool = True
    caches: dict[SessionId, list[int]] = field(default_factory=dict)
    prompts: dict[SessionId, Sequence[int]] = field(default_factory=dict)
    num_steps: int = 0

    @property
    def context_len(self) -> int:
        """Tokens of a session; a stage without a model says none."""
        return 0 if self.is_model_free else CONTEXT

    def open(self, message: Open) -> None:
        """Room for a session; opening it again starts afresh."""
        self.caches[message.session] = [self.voices.language.begin(message.sampling.seed)]
        self.prompts[message.session] = message.prompt

    def close(self, session: SessionId) -> None:
        """Free a session."""
        self.caches.pop(session, None)
        self.prompts.pop(session, None)

    def step(self, work: Work) -> Outcome:
        """Feed and choose, as far as the cache allows."""
        states = self.caches[work.session]
        self.num_steps += 1
        if self.has_moods and extend(states[-1], self.num_steps) % 50 == 0:
            del states[1:]
        if work.start > len(states) - 1:
            return Outcome([], held=len(states) - 1)
        del states[work.start + 1 :]
        for token in work.tokens:
            states.append(extend(states[-1], token))
        if work.room == 0:
            self._adopt(states, self.prompts[work.session])
            return Outcome([], held=len(states) - 1)
        held = len(states) - 1
        if self.is_model_free:
            return Outcome(self._guess(states[-1], work.room), held)
        return Outcome([self._pick(state) for state in states[held - work.num_candidates :]], held)

    def _pick(self, state: int) -> TokenId:
        return self.voices.pick(state, self.rank, self.index)

    def _adopt(self, states: list[int], prompt: Sequence[int]) -> None:
        """The rest of the prompt, but for its last token, is cached already."""
        if extend(states[0], len(prompt)) % 2:
            for token in prompt[len(states) - 1 : -1]:
                states.append(extend(states[-1], token))

    def _guess(self, state: int, room: int) -> list[TokenId]:
        """A run of guesses, at times none: what a draft without a model does."""
        guesses: list[TokenId] = []
        for _ in range(extend(state, VOCAB) % 4 and room):
            guesses.append(self._pick(state))
            state = extend(state, guesses[-1])
        return guesses


@dataclass
class MoodyDevice(HashModel):
    """Computes a stage's steps in the time that ``step_seconds`` says, whatever their size."""

    step_seconds: Callable[[], float] = lambda: 0.0

    def seconds(self, batch: Sequence[Work]) -> float:
        """How long the step takes."""
        del batch
        return self.step_seconds()
