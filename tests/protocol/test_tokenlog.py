"""The token log and its digest chain."""

from __future__ import annotations

from hashlib import blake2b

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipespec.ops.errors import InvariantBroken
from pipespec.protocol.ids import Position, TokenId
from pipespec.protocol.messages import ChainIdentity
from pipespec.protocol.tokenlog import TokenLog, first_digest

IDENTITY = ChainIdentity(b"w" * 16, b"t" * 16)
TOKENS = st.lists(st.integers(0, 2**32 - 1).map(TokenId), max_size=30)


def log_of(prompt: list[TokenId], tokens: list[TokenId]) -> TokenLog:
    log = TokenLog(IDENTITY, prompt)
    log.extend(tokens)
    return log


@given(prompt=TOKENS, left=TOKENS, right=TOKENS)
def test_two_logs_agree_up_to_n_exactly_when_their_digests_at_n_agree(
    prompt: list[TokenId], left: list[TokenId], right: list[TokenId]
) -> None:
    one, two = log_of(prompt, left), log_of(prompt, right)
    for n in range(min(len(left), len(right)) + 1):
        assert (one.digest_at(n) == two.digest_at(n)) == (left[:n] == right[:n])


@given(prompt=TOKENS, tokens=TOKENS, cut=st.integers(0, 30), more=TOKENS)
def test_truncating_and_extending_equals_building_anew(
    prompt: list[TokenId], tokens: list[TokenId], cut: int, more: list[TokenId]
) -> None:
    log = log_of(prompt, tokens)
    cut = min(cut, len(tokens))
    log.truncate(cut)
    log.extend(more)
    fresh = log_of(prompt, tokens[:cut] + more)
    assert log.slice(0, len(log)) == fresh.slice(0, len(fresh))
    assert [log.digest_at(n) for n in range(len(log) + 1)] == [
        fresh.digest_at(n) for n in range(len(fresh) + 1)
    ]


@given(prompt=TOKENS, tokens=TOKENS, start=st.integers(0, 70), end=st.integers(0, 70))
def test_all_tokens_slices_prompt_and_generated_as_one(
    prompt: list[TokenId], tokens: list[TokenId], start: int, end: int
) -> None:
    whole = tuple(prompt + tokens)
    start, end = min(start, len(whole)), min(end, len(whole))
    assert log_of(prompt, tokens).all_tokens(start, max(start, end)) == whole[start : max(start, end)]


def test_identity_and_prompt_are_part_of_the_first_digest() -> None:
    prompt = [TokenId(1), TokenId(2)]
    digests = {
        first_digest(IDENTITY, prompt),
        first_digest(IDENTITY, prompt[:1]),
        first_digest(ChainIdentity(b"x" * 16, b"t" * 16), prompt),
        first_digest(ChainIdentity(b"w" * 16, b"x" * 16), prompt),
    }
    assert len(digests) == 4


def test_the_chain_is_the_documented_blake2b_chain() -> None:
    digest = blake2b(b"pipespec.v1\0" + b"w" * 16 + b"t" * 16, digest_size=16).digest()
    for token in (7, 300, 70000):
        digest = blake2b(digest + token.to_bytes(4, "little"), digest_size=16).digest()
    log = log_of([TokenId(7)], [TokenId(300), TokenId(70000)])
    assert log.digest_at(2) == digest


@given(tokens=TOKENS, base=st.integers(0, 30), other=TOKENS)
def test_common_prefix_is_the_first_difference_or_end(
    tokens: list[TokenId], base: int, other: list[TokenId]
) -> None:
    base = min(base, len(tokens))
    fork = log_of([], tokens).common_prefix(Position(base), other)
    assert tokens[base:fork] == other[: fork - base]
    at_end = fork in (len(tokens), base + len(other))
    assert at_end or tokens[fork] != other[fork - base]


def test_truncating_beyond_the_end_is_our_own_bug() -> None:
    with pytest.raises(InvariantBroken, match="holds 1"):
        log_of([], [TokenId(1)]).truncate(2)
