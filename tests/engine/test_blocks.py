"""Reference counts, the prefix index and eviction of a pool of blocks."""

from __future__ import annotations

import pytest

from pipespec.engine.blocks import TRASH, BlockPool
from pipespec.ops.errors import InvariantBroken
from pipespec.protocol.ids import Digest

KEYS = [Digest(bytes([i]) * 16) for i in range(4)]


def taken(pool: BlockPool, number: int) -> list[int]:
    blocks = [pool.take() for _ in range(number)]
    assert None not in blocks
    return [block for block in blocks if block is not None]


def test_every_block_is_given_once_and_never_the_trash():
    pool = BlockPool(5)
    blocks = taken(pool, 5)
    assert sorted(blocks) == [1, 2, 3, 4, 5]
    assert TRASH not in blocks
    assert pool.take() is None
    assert (pool.num_held, pool.num_available) == (5, 0)


def test_a_block_is_free_again_when_its_last_holder_releases_it():
    pool = BlockPool(2)
    (block,) = taken(pool, 1)
    pool.publish(block, KEYS[0])
    assert pool.share(KEYS[0]) == block
    assert pool.is_shared(block)
    pool.release(block)
    assert not pool.is_shared(block)
    assert pool.num_held == 1
    pool.release(block)
    assert (pool.num_held, pool.num_cached) == (0, 1)


def test_releasing_what_nobody_holds_is_a_bug_of_ours():
    pool = BlockPool(2)
    with pytest.raises(InvariantBroken, match="block 1 is released, but nobody holds it"):
        pool.release(1)


def test_a_published_block_outlives_its_holders_until_room_is_needed():
    pool = BlockPool(2)
    first, second = taken(pool, 2)
    pool.publish(first, KEYS[0])
    pool.release(first)
    pool.release(second)
    assert taken(pool, 1) == [second]  # the free one goes first
    assert pool.share(KEYS[0]) == first
    pool.release(first)
    assert taken(pool, 1) == [first]
    assert pool.share(KEYS[0]) is None


def test_what_was_unused_longest_is_evicted_first():
    pool = BlockPool(3)
    blocks = taken(pool, 3)
    for block, key in zip(blocks, KEYS, strict=False):
        pool.publish(block, key)
    for block in (blocks[2], blocks[0], blocks[1]):
        pool.release(block)
    assert pool.share(KEYS[2]) == blocks[2]
    pool.release(blocks[2])  # used again: now the newest
    assert taken(pool, 3) == [blocks[0], blocks[1], blocks[2]]


def test_the_first_of_equal_blocks_is_published():
    pool = BlockPool(3)
    first, second, third = taken(pool, 3)
    pool.publish(first, KEYS[0])
    pool.publish(second, KEYS[0])
    assert pool.share(KEYS[0]) == first
    pool.release(second)
    assert pool.num_cached == 0  # nobody could ask for it
    pool.unpublish(first)
    pool.publish(third, KEYS[0])
    assert pool.share(KEYS[0]) == third


def test_unpublishing_what_is_not_published_changes_nothing():
    pool = BlockPool(2)
    first, second = taken(pool, 2)
    pool.publish(first, KEYS[0])
    pool.unpublish(second)
    assert pool.share(KEYS[0]) == first
