"""Who is let in by which key."""

from __future__ import annotations

import hmac
from typing import Any

import pytest

from gateway.access.keys import ALICE, ALICE_NEW, BOB, EVERYBODY, key_ring
from pipespec.gateway.access import KeyRing
from pipespec.gateway.access.key_file import digest_of, parse_key_file
from pipespec.ops.errors import Overloaded, RequestError


def refusal(ring: KeyRing, authorization: str | None) -> RequestError:
    with pytest.raises(RequestError) as caught:
        ring.authenticate(authorization, protocol="test")
    assert caught.value.code == "invalid_api_key"
    return caught.value


def test_every_key_of_a_principal_lets_it_in() -> None:
    ring = key_ring()
    first, second = (ring.authenticate(f"Bearer {key}", protocol="test") for key in (ALICE, ALICE_NEW))
    assert first is second
    assert first.name == "alice"


def test_a_plain_key_brings_its_rights() -> None:
    bob = key_ring().authenticate(f"bearer {BOB}", protocol="test")
    assert (bob.name, bob.models, bob.max_requests) == ("bob", {"small"}, 1)


@pytest.mark.parametrize(
    "authorization",
    [
        None,
        "",
        "Bearer",
        "Bearer ",
        ALICE,
        f"Basic {ALICE}",
        f"Bearer{ALICE}",
        f"Bearer {ALICE}x",
        f"Bearer {ALICE[:-1]}",
        f"Bearer {ALICE.upper()}",
        f"Bearer {digest_of(ALICE).hex()}",
        f"Bearer {ALICE} {BOB}",
        "Bearer ключ\udc80",
        "Bearer " + "x" * 100_000,
    ],
)
def test_anything_else_lets_nobody_in_and_is_not_repeated(authorization: str | None) -> None:
    assert ALICE not in str(refusal(key_ring(), authorization))


def test_every_key_is_compared_whichever_is_right(monkeypatch: pytest.MonkeyPatch) -> None:
    compared: list[bytes] = []
    compare = hmac.compare_digest

    def count(held: bytes, given: bytes) -> bool:
        compared.append(held)
        return compare(held, given)

    monkeypatch.setattr(hmac, "compare_digest", count)
    ring = key_ring()
    num_keys = sum(len(one["keys"]) for one in EVERYBODY)
    for key in (ALICE, BOB):
        compared.clear()
        ring.authenticate(f"Bearer {key}", protocol="test")
        assert len(set(compared)) == num_keys
    compared.clear()
    refusal(ring, "Bearer nobody's")
    assert len(set(compared)) == num_keys


def test_a_key_counts_until_it_expires() -> None:
    now = 1_000_000.0
    keys: list[dict[str, Any]] = [{"plain": ALICE, "expires": "1970-01-12T13:46:41Z"}]  # 1,000,001
    ring = key_ring([{"name": "alice", "keys": keys}], clock=lambda: now)
    assert ring.authenticate(f"Bearer {ALICE}", protocol="test").name == "alice"
    now = 1_000_001.0
    assert "expired" in str(refusal(ring, f"Bearer {ALICE}"))


def test_new_keys_count_at_once_and_old_ones_no_longer() -> None:
    ring = key_ring([{"name": "alice", "keys": [{"plain": ALICE}]}])
    document = {"principals": [{"name": "alice", "keys": [{"plain": ALICE_NEW}]}]}
    ring.replace(parse_key_file(document, source="test"))
    refusal(ring, f"Bearer {ALICE}")
    assert ring.authenticate(f"Bearer {ALICE_NEW}", protocol="test").name == "alice"


def test_what_runs_counts_against_new_rights_too() -> None:
    ring = key_ring([{"name": "bob", "max_requests": 2, "keys": [{"plain": BOB}]}])
    before = ring.authenticate(f"Bearer {BOB}", protocol="test")
    before.enter(1)
    document = {"principals": [{"name": "bob", "max_requests": 1, "keys": [{"plain": BOB}]}]}
    ring.replace(parse_key_file(document, source="test"))
    after = ring.authenticate(f"Bearer {BOB}", protocol="test")
    with pytest.raises(Overloaded):
        after.enter(1)
    before.leave(1)
    after.enter(1)
