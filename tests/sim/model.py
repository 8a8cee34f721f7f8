"""Models for the simulation: engines that say the words of the emulation's language, with the moods of real ones.

At times they give a session's cache away, find a prompt cached already, or, without a model, guess nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from pipespec.emulation.words import HashLanguage, extend
from pipespec.protocol.ids import SessionId, TokenId
from pipespec.protocol.messages import Open
from pipespec.protocol.work import Outcome, Work

VOCAB = 997
CONTEXT = 4096


def language_of(agreements: Sequence[float]) -> HashLanguage:
    """What a chain says whose stages agree with the next as given."""
    return HashLanguage(seed=0, vocab_size=VOCAB, agreements=tuple(agreements))


def target_output(
    language: HashLanguage, prompt: Sequence[int], *, seed: int, num_tokens: int, stop_ids: Sequence[int]
) -> list[TokenId]:
    """The target's own decoding, up to the first stop id: the oracle."""
    text = language.target_text(prompt, num_tokens, session_seed=seed)
    ends = [position for position, token in enumerate(text, start=1) if token in stop_ids]
    return text[: ends[0]] if ends else text


@dataclass
class HashModel:
    """An engine whose cache is a list of hash states, cropped and fed just as a real one.

    Every so many steps it gives a session's cache away, and every other prompt is found to be cached already.
    """

    language: HashLanguage
    rank: int
    is_model_free: bool = False
    caches: dict[SessionId, list[int]] = field(default_factory=dict)
    prompts: dict[SessionId, Sequence[int]] = field(default_factory=dict)
    num_steps: int = 0

    @property
    def context_len(self) -> int:
        """Tokens of a session; a stage without a model says none."""
        return 0 if self.is_model_free else CONTEXT

    def open(self, message: Open) -> None:
        """Room for a session; opening it again starts afresh."""
        self.caches[message.session] = [self.language.begin(message.sampling.seed)]
        self.prompts[message.session] = message.prompt

    def close(self, session: SessionId) -> None:
        """Free a session."""
        self.caches.pop(session, None)

    def step(self, work: Work) -> Outcome:
        """Feed and choose, as far as the cache allows."""
        states = self.caches[work.session]
        self.num_steps += 1
        if extend(states[-1], self.num_steps) % 50 == 0:
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
        return self.language.pick(state, self.rank)

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
