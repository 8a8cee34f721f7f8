"""Placement: the least loaded replica, or the one that knows the prompt's beginning, within its share."""

from __future__ import annotations

from collections import Counter

import pytest

from pipespec.protocol.ids import Member, Rank
from pipespec.protocol.placement import PREFIX_BLOCK, PrefixAffinity, prefix_keys
from protocol.examples import ids

A, B, C = ((Rank(1), name) for name in ("a", "b", "c"))
SYSTEM = ids(*range(3 * PREFIX_BLOCK))


def loads(**sessions: int) -> dict[Member, int]:
    return {(Rank(1), name): number for name, number in sessions.items()}


def test_prompts_share_as_many_keys_as_whole_blocks_at_their_beginning() -> None:
    one = prefix_keys((*SYSTEM, *ids(7) * PREFIX_BLOCK))
    other = prefix_keys((*SYSTEM, *ids(8) * PREFIX_BLOCK))
    assert len(one) == len(other) == 4
    assert [a == b for a, b in zip(one, other, strict=True)] == [True, True, True, False]
    assert prefix_keys(SYSTEM[: PREFIX_BLOCK - 1]) == ()


def test_without_a_known_beginning_the_least_loaded_replica_is_chosen_and_then_the_first_by_name() -> None:
    placement = PrefixAffinity()
    assert placement.choose(loads(a=2, b=1, c=1), ()) == B
    assert placement.choose(loads(a=2, b=1, c=0), prefix_keys(SYSTEM)) == C


def test_who_has_read_most_of_the_prompt_is_chosen_while_its_load_allows_it() -> None:
    placement = PrefixAffinity()
    placement.placed(A, prefix_keys(SYSTEM[:PREFIX_BLOCK]))
    placement.placed(B, prefix_keys(SYSTEM))
    placement.placed(A, prefix_keys(SYSTEM[:PREFIX_BLOCK]))
    assert placement.choose(loads(a=3, b=4, c=3), prefix_keys(SYSTEM)) == B
    assert placement.choose(loads(a=4, b=3, c=3), prefix_keys(SYSTEM[:PREFIX_BLOCK])) == A
    assert placement.choose(loads(a=3, b=5, c=3), prefix_keys(SYSTEM)) != B


def test_one_popular_beginning_does_not_overload_its_replica() -> None:
    placement = PrefixAffinity(slack=1.25)
    held: Counter[Member] = Counter({A: 0, B: 0, C: 0})
    for _ in range(300):
        member = placement.choose(dict(held), prefix_keys(SYSTEM))
        placement.placed(member, prefix_keys(SYSTEM))
        held[member] += 1
    assert max(held.values()) <= 1.25 * 100 + 1


def test_a_replica_that_is_gone_is_not_chosen_whatever_it_knows() -> None:
    placement = PrefixAffinity()
    placement.placed(A, prefix_keys(SYSTEM))
    assert placement.choose(loads(b=5, c=4), prefix_keys(SYSTEM)) == C


def test_stages_are_remembered_apart() -> None:
    placement = PrefixAffinity()
    placement.placed((Rank(0), "b"), prefix_keys(SYSTEM))
    placement.placed(A, prefix_keys(SYSTEM))
    assert placement.choose({(Rank(0), "a"): 0, (Rank(0), "b"): 0}, prefix_keys(SYSTEM)) == (Rank(0), "b")


@pytest.mark.parametrize("seed", range(8))
def test_gateways_that_know_nothing_of_each_other_agree_on_the_replica_of_a_beginning(seed: int) -> None:
    prefix = prefix_keys(ids(seed) * PREFIX_BLOCK)
    first, second = PrefixAffinity(), PrefixAffinity()
    assert first.choose(loads(a=1, b=1, c=1), prefix) == second.choose(loads(c=1, b=1, a=1), prefix)


def test_beginnings_are_spread_over_the_replicas() -> None:
    chosen = {
        PrefixAffinity().choose(loads(a=0, b=0, c=0), prefix_keys(ids(n) * PREFIX_BLOCK)) for n in range(40)
    }
    assert chosen == {A, B, C}
