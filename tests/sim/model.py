"""Models for the simulation: the next token is a seeded hash of the prefix, so one wrong token changes all after it.

A draft agrees with the target with a set probability per position, decided by the same hash: every replica of a
stage says the same, and the target's own decoding can be computed without any pipeline.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from pipespec.protocol.ids import SessionId, TokenId
from pipespec.protocol.messages import Open
from pipespec.protocol.work import Outcome, Work

VOCAB = 997


def stir(state: int, token: int) -> int:
    """64-bit hash state after one more token (splitmix64's finalizer)."""
    mixed = (state ^ (token + 0x9E3779B97F4A7C15)) * 0xBF58476D1CE4E5B9 % 2**64
    mixed = (mixed ^ (mixed >> 27)) * 0x94D049BB133111EB % 2**64
    return mixed ^ (mixed >> 31)


def target_token(state: int) -> TokenId:
    """What the target says after the prefix with this hash."""
    return TokenId(stir(state, 1) % VOCAB)


def target_output(
    message_prompt: Sequence[int], seed: int, num_tokens: int, stop_ids: Sequence[int]
) -> list[int]:
    """The target's own decoding, without any pipeline: the oracle."""
    state = seed
    for token in message_prompt:
        state = stir(state, token)
    output: list[int] = []
    while len(output) < num_tokens and (not output or output[-1] not in stop_ids):
        output.append(target_token(state))
        state = stir(state, output[-1])
    return output


@dataclass
class HashModel:
    """An engine whose cache is a list of hash states, cropped and fed just as a real one.

    Every so many steps it gives a session's cache away, and every other prompt is found to be cached already.
    """

    agreement: float
    is_model_free: bool = False
    caches: dict[SessionId, list[int]] = field(default_factory=dict)
    prompts: dict[SessionId, Sequence[int]] = field(default_factory=dict)
    num_steps: int = 0

    def open(self, message: Open) -> None:
        """Room for a session; opening it again starts afresh."""
        self.caches[message.session] = [message.sampling.seed]
        self.prompts[message.session] = message.prompt

    def close(self, session: SessionId) -> None:
        """Free a session."""
        self.caches.pop(session, None)

    def pick(self, state: int) -> TokenId:
        """The choice after a prefix."""
        token = target_token(state)
        if stir(state, 2) % 10_000 < self.agreement * 10_000:
            return token
        return TokenId((token + 1 + stir(state, 3) % (VOCAB - 1)) % VOCAB)

    def step(self, work: Work) -> Outcome:
        """Feed and choose, as far as the cache allows."""
        states = self.caches[work.session]
        self.num_steps += 1
        if stir(states[-1], self.num_steps) % 50 == 0:
            del states[1:]
        if work.start > len(states) - 1:
            return Outcome([], held=len(states) - 1)
        del states[work.start + 1 :]
        for token in work.tokens:
            states.append(stir(states[-1], token))
        if work.room == 0:
            self._adopt(states, self.prompts[work.session])
            return Outcome([], held=len(states) - 1)
        held = len(states) - 1
        if self.is_model_free:
            return Outcome(self._guess(states[-1], work.room), held)
        return Outcome([self.pick(state) for state in states[held - work.num_candidates :]], held)

    def _adopt(self, states: list[int], prompt: Sequence[int]) -> None:
        """The rest of the prompt, but for its last token, is cached already."""
        if stir(states[0], len(prompt)) % 2:
            for token in prompt[len(states) - 1 : -1]:
                states.append(stir(states[-1], token))

    def _guess(self, state: int, room: int) -> list[TokenId]:
        """A run of guesses, at times none: what a draft without a model does."""
        guesses: list[TokenId] = []
        for _ in range(stir(state, 4) % 4 and room):
            guesses.append(self.pick(state))
            state = stir(state, guesses[-1])
        return guesses
