"""One session's view of the pool: the tokens that its blocks hold, the block table, and the chain of digests.

``tokens`` are those of prompt + generated whose keys and values are in the pool, so cutting back is a matter of lengths.
Blocks beyond the cut stay with the session and are written over; a block that others may see is never written: it is
copied, or taken out of the index, first.
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import blake2b

from pipespec.engine.blocks import BlockPool
from pipespec.protocol.ids import DIGEST_LEN, Digest, TokenId
from pipespec.protocol.sampling import Sampling
from pipespec.protocol.tokenlog import mix

ROOT = Digest(blake2b(b"pipespec.cache", digest_size=DIGEST_LEN).digest())
"""Digest of no tokens; one engine runs one model, so the chain need not name it."""


class PagedSession:
    """A session in an engine.

    Args:
        order: counts the sessions of the engine; the one with the highest is the youngest.
        prompt: its prompt.
        sampling: how its tokens are chosen.
        block_size: tokens per block.
    """

    def __init__(self, *, order: int, prompt: Sequence[TokenId], sampling: Sampling, block_size: int) -> None:
        self.order = order
        self.prompt = tuple(prompt)
        self.sampling = sampling
        self.tokens: list[TokenId] = []
        self.table: list[int] = []
        self._block_size = block_size
        self._chain: list[Digest] = []
        self._num_published = 0

    def truncate(self, length: int) -> None:
        """Forget all but the first ``length`` tokens."""
        del self.tokens[length:]
        full = length // self._block_size
        del self._chain[full:]
        self._num_published = min(self._num_published, full)

    def reserve(self, pool: BlockPool, length: int) -> tuple[int, int] | None:
        """Make room for ``length`` tokens, to be written from ``len(tokens)`` on.

        Returns:
            None, or the blocks ``(source, copy)`` where the first that is written had to be replaced by a copy.

        Raises:
            OutOfBlocks: every block is held. What was taken until then stays in the table.
        """
        while len(self.table) * self._block_size < length:
            self.table.append(_take(pool))
        first = len(self.tokens) // self._block_size
        for index in range(first + 1, -(-length // self._block_size)):
            self._own(pool, index)
        return self._own(
            pool, first
        )  # last: what raises before it may be tried again, and no copy is forgotten

    def _own(self, pool: BlockPool, index: int) -> tuple[int, int] | None:
        """Make a block of the table writable."""
        block = self.table[index]
        if not pool.is_shared(block):
            pool.unpublish(block)
            return None
        self.table[index] = _take(pool)
        pool.release(block)
        return block, self.table[index]

    def adopt(self, pool: BlockPool) -> None:
        """Hold the published blocks that begin the prompt, all but its last token; for a session without tokens."""
        for end in range(self._block_size, len(self.prompt), self._block_size):
            block = pool.share(self._digest(end))
            if block is None:
                break
            self.table.append(block)
            self.tokens.extend(self.prompt[end - self._block_size : end])
            self._num_published += 1
        del self._chain[self._num_published :]

    def publish(self, pool: BlockPool, length: int) -> None:
        """Let others find the full blocks among the first ``length`` tokens."""
        for index in range(self._num_published, min(length, len(self.tokens)) // self._block_size):
            pool.publish(self.table[index], self._digest((index + 1) * self._block_size))
            self._num_published = index + 1

    def release(self, pool: BlockPool) -> None:
        """Give all blocks back; the last first, so that the beginning of a prefix is evicted last."""
        for block in reversed(self.table):
            pool.release(block)
        self.table.clear()
        self.truncate(0)

    def _digest(self, end: int) -> Digest:
        """Of the first ``end`` tokens; ``end`` is at most one block beyond what the chain covers."""
        index = end // self._block_size - 1
        if index == len(self._chain):
            digest = self._chain[-1] if self._chain else ROOT
            source = self.tokens if len(self.tokens) >= end else self.prompt
            for token in source[end - self._block_size : end]:
                digest = mix(digest, token)
            self._chain.append(digest)
        return self._chain[index]


class OutOfBlocks(Exception):  # not an error: the engine makes room and goes on
    """Every block is held by a session."""


def _take(pool: BlockPool) -> int:
    block = pool.take()
    if block is None:
        raise OutOfBlocks
    return block
