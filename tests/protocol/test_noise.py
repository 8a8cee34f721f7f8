"""The shared noise: golden vectors, for other languages to meet, and its statistics."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from pipespec.protocol.ids import Position, TokenId
from pipespec.protocol.noise import branch_seed, gumbel, mix, noise_key, uniform

words = st.integers(0, 2**64 - 1)
ids = st.integers(0, 2**32 - 1)


def test_mix_is_the_finalizer_of_splitmix64():
    """The first outputs of SplitMix64 seeded with 1234567, as published with its reference code."""
    state = 1234567
    outputs = [mix((state + (n + 1) * 0x9E3779B97F4A7C15) % 2**64) for n in range(3)]
    assert outputs == [6457827717110365317, 3203168211198807973, 9817491932198370423]


GOLDEN_VECTORS = [
    (0x0, 0, 0, 0xA706DD2F4D197E6F, "0x1.1c13ade1c7e5cp-3", -0.6807578025137786),
    (0x0, 0, 1, 0xA706DD2F4D197E6F, "0x1.f1344acd6b045p-1", 3.5293597414235305),
    (0x0, 1, 0, 0xB382A305F4414F5E, "0x1.7880ff10a4b74p-3", -0.526909935923932),
    (0x1, 0, 0, 0x5E41AB087439611E, "0x1.631405e8db1b1p-1", 1.0051587347812545),
    (0x2A, 17, 151643, 0x72788AC53F004925, "0x1.797a1a4c4799fp-1", 1.188049976982205),
    (
        0xFFFFFFFFFFFFFFFF,
        2147483647,
        4294967295,
        0x7F983CBE52F81496,
        "0x1.f9fe3383d829ap-2",
        0.3496297870681738,
    ),
    (0x123456789ABCDEF, 1000, 49151, 0x8F20BAB50B844FA9, "0x1.7396b245e5a4ap-2", -0.01359153709069727),
]
"""Rows of seed, position, token id, key, uniform (hex float: exact), gumbel."""


@pytest.mark.parametrize(("seed", "position", "token", "key", "u", "g"), GOLDEN_VECTORS)
def test_golden_vectors(seed, position, token, key, u, g):
    """These values never change: they are what the same seed gives in every version and language."""
    assert noise_key(seed, Position(position)) == key
    assert uniform(key, TokenId(token)) == float.fromhex(u)
    assert gumbel(key, TokenId(token)) == pytest.approx(g, rel=1e-15)


def test_branch_seeds_are_golden():
    assert [branch_seed(7, index) for index in range(3)] == [7, 14277488841086658520, 17760859471504680797]


@given(words, ids)
def test_uniforms_exclude_both_ends(key, token):
    assert 0.0 < uniform(key, TokenId(token)) < 1.0


def test_the_greatest_hash_stays_below_one():
    """With 53 bits and a half, the sum would round up to 1.0 and the noise be infinite."""
    assert ((2**52 - 1) + 0.5) * 2.0**-52 < 1.0
    assert ((2**53 - 1) + 0.5) * 2.0**-53 == 1.0


def test_completion_zero_keeps_the_seed():
    """So that the first of n completions is the one that n=1 would give."""
    assert branch_seed(12345, 0) == 12345


@given(words)
def test_branches_differ(seed):
    seeds = [branch_seed(seed, index) for index in range(128)]
    assert len(set(seeds)) == 128
    assert all(0 <= branch < 2**64 for branch in seeds)


def test_uniforms_are_uniform_over_ids_positions_and_seeds():
    for draws in (
        [uniform(noise_key(1, Position(0)), TokenId(token)) for token in range(20_000)],
        [uniform(noise_key(1, Position(position)), TokenId(5)) for position in range(20_000)],
        [uniform(noise_key(seed, Position(3)), TokenId(5)) for seed in range(20_000)],
    ):
        assert stats.kstest(draws, "uniform").pvalue > 1e-3


def test_neighbouring_positions_and_ids_are_independent():
    keys = [noise_key(9, Position(position)) for position in range(20_001)]
    draws = [uniform(key, TokenId(0)) for key in keys]
    others = [uniform(key, TokenId(1)) for key in keys]
    assert stats.pearsonr(draws[:-1], draws[1:]).pvalue > 1e-3
    assert stats.pearsonr(draws, others).pvalue > 1e-3


def test_gumbel_is_gumbel():
    draws = [gumbel(noise_key(2, Position(0)), TokenId(token)) for token in range(20_000)]
    assert stats.kstest(draws, "gumbel_r").pvalue > 1e-3
    assert all(math.isfinite(draw) for draw in draws)
