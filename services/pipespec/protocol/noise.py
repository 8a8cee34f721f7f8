"""The shared noise: every stage, replica and retry of a session draws the same Gumbel noise.

Pure integer arithmetic on 64-bit words, so that a client in any language can reproduce it; the engine has the same
function over whole vocabularies. Invariant: the noise depends on (seed, position, token id) and on nothing else.
All additions and multiplications wrap modulo 2**64; ``>>`` shifts in zeros::

    mix(z):   z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9
              z = (z ^ z >> 27) * 0x94D049BB133111EB
              z ^ z >> 31                                       the finalizer of SplitMix64
    key       = mix(mix(seed + GOLDEN) + (position + 1) * GOLDEN)
    u         = ((mix(key + (id + 1) * GOLDEN) >> 12) + 0.5) / 2**52
    gumbel    = -ln(-ln(u))                                     float64

Sources: Steele, Lea, Flood 2014 (SplitMix); Daliri, Musco, Suresh 2024, "Coupling without Communication".
"""

from __future__ import annotations

import math

from pipespec.protocol.ids import Position, TokenId

GOLDEN = 0x9E3779B97F4A7C15
MULTIPLIER_1 = 0xBF58476D1CE4E5B9
MULTIPLIER_2 = 0x94D049BB133111EB
UNIFORM_BITS = 52
"""Of the hash in a uniform. One more would round the largest one to 1.0, whose Gumbel noise is infinite."""

_WORD = 2**64 - 1
_BRANCH = 0x6272616E63680000
"""Keeps the seeds of branches apart from the keys of positions; "branch" in ASCII."""


def mix(word: int) -> int:
    """Scramble 64 bits; a bijection (SplitMix64's finalizer)."""
    word = ((word ^ (word >> 30)) * MULTIPLIER_1) & _WORD
    word = ((word ^ (word >> 27)) * MULTIPLIER_2) & _WORD
    return word ^ (word >> 31)


def noise_key(seed: int, position: Position) -> int:
    """64-bit key of all noise at one position; ``seed`` is taken modulo 2**64."""
    return mix((mix((seed + GOLDEN) & _WORD) + (position + 1) * GOLDEN) & _WORD)


def uniform(key: int, token_id: TokenId) -> float:
    """A number in (0, 1), both ends excluded: an odd multiple of 2**-53."""
    return ((mix((key + (token_id + 1) * GOLDEN) & _WORD) >> (64 - UNIFORM_BITS)) + 0.5) * 2.0**-UNIFORM_BITS


def gumbel(key: int, token_id: TokenId) -> float:
    """Standard Gumbel noise of one token, between about -3.7 and 36.8."""
    return -math.log(-math.log(uniform(key, token_id)))


def branch_seed(seed: int, index: int) -> int:
    """Seed of completion ``index`` of one request with several; completion 0 keeps ``seed``, so n=1 is its prefix."""
    if index == 0:
        return seed & _WORD
    return mix((mix((seed + GOLDEN) & _WORD) + _BRANCH + index * GOLDEN) & _WORD)
