"""What emulated stages say: the next token is a hash of the prefix, so one wrong token changes all after it.

Every replica of a stage says the same, and the target's own decoding can be computed without any pipeline: the oracle
of every equivalence check. The state of a prefix is 64 bits; all arithmetic is that of ``protocol.noise``.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from pipespec.ops.errors import SettingsError
from pipespec.protocol.ids import TokenId
from pipespec.protocol.noise import GOLDEN, mix

_WORD = 2**64 - 1
_CHOICES = 0x63686F6963650000
"""Keeps what is drawn at a prefix apart from the states that follow it; "choice" in ASCII."""


def extend(state: int, token: int) -> int:
    """State of the prefix with one more token."""
    return mix((state + (token + 1) * GOLDEN) & _WORD)


def _draw(state: int, index: int) -> int:
    """64 random bits at a prefix, others for every index.

    Stages are counted from the target backwards: it says the same in a chain, in a part of it and alone.
    """
    return mix(((state ^ _CHOICES) + (index + 1) * GOLDEN) & _WORD)


@dataclass(frozen=True, slots=True)
class HashLanguage:
    """The words of a whole chain; stages 0 … K-1, the last is the target.

    Attributes:
        seed: another one is another language.
        vocab_size: how many ids are said, at least 2.
        agreements: K-1 probabilities; ``agreements[r]`` is that of stage r's choice being stage r+1's, independently at
            every prefix. Where they differ, any other word is as likely.
        first_word: said are ``first_word`` … ``first_word + vocab_size - 1``; any id can be read.
    """

    seed: int
    vocab_size: int
    agreements: tuple[float, ...]
    first_word: int = 0
    _thresholds: tuple[int, ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Check the settings.

        Raises:
            SettingsError: there are fewer than two words, or an agreement is not a probability.
        """
        if self.vocab_size < 2:
            raise SettingsError(f"a language needs at least 2 words to disagree; got {self.vocab_size}")
        for rank, agreement in enumerate(self.agreements):
            if not 0.0 <= agreement <= 1.0:
                raise SettingsError(
                    f"the agreement of stage {rank} with the next must be from 0 to 1; got {agreement}"
                )
        object.__setattr__(self, "_thresholds", tuple(int(a * 2**64) for a in self.agreements))

    @property
    def target(self) -> int:
        """Rank of the last stage."""
        return len(self.agreements)

    def begin(self, session_seed: int = 0) -> int:
        """State of the empty prefix; sessions that sample with different seeds get different texts."""
        return extend(mix((self.seed + GOLDEN) & _WORD), session_seed)

    def state_of(self, prefix: Iterable[int], *, session_seed: int = 0) -> int:
        """State of a whole prefix, prompt and generated tokens."""
        state = self.begin(session_seed)
        for token in prefix:
            state = extend(state, token)
        return state

    def pick(self, state: int, rank: int) -> TokenId:
        """What stage ``rank`` says after the prefix with this state."""
        word = _draw(state, 0) % self.vocab_size
        for other in range(self.target - 1, rank - 1, -1):
            bits = _draw(state, self.target - other)
            if bits >= self._thresholds[other]:
                word = (word + 1 + mix(bits) % (self.vocab_size - 1)) % self.vocab_size
        return TokenId(self.first_word + word)

    def target_text(self, prompt: Iterable[int], num_tokens: int, *, session_seed: int = 0) -> list[TokenId]:
        """The target's own decoding after ``prompt``, without any pipeline."""
        state = self.state_of(prompt, session_seed=session_seed)
        text: list[TokenId] = []
        for _ in range(num_tokens):
            text.append(self.pick(state, self.target))
            state = extend(state, text[-1])
        return text
