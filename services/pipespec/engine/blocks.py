"""Which blocks of the key-value pool are whose: reference counts, the prefix index and eviction.

Pure bookkeeping, without tensors. A block holds the keys and values of ``block_size`` consecutive tokens. A full block
may be *published* under the digest of the chain at its end, which covers every token before it; whoever has the same
prefix may then hold it too. A published block is never written again. One that nobody holds stays, until room is
needed: the one unused longest goes first.
"""

from __future__ import annotations

from collections import OrderedDict

from pipespec.ops.errors import InvariantBroken
from pipespec.protocol.ids import Digest

TRASH = 0
"""The block that padding writes to and nobody holds."""


class BlockPool:
    """Blocks ``1 … num_blocks``; each is free, held by one or more sessions, or cached (published and unheld)."""

    def __init__(self, num_blocks: int) -> None:
        self.num_blocks = num_blocks
        self._free = list(range(num_blocks, 0, -1))
        self._holders = [0] * (num_blocks + 1)
        self._keys: dict[int, Digest] = {}
        self._published: dict[Digest, int] = {}
        self._cached: OrderedDict[int, None] = OrderedDict()

    @property
    def num_available(self) -> int:
        """Blocks that ``take`` can give: free and cached ones."""
        return len(self._free) + len(self._cached)

    @property
    def num_held(self) -> int:
        """Blocks that some session holds."""
        return self.num_blocks - self.num_available

    @property
    def num_cached(self) -> int:
        """Blocks that nobody holds but whose content may be asked for."""
        return len(self._cached)

    def take(self) -> int | None:
        """An empty block for its only holder; None when all are held."""
        if self._free:
            block = self._free.pop()
        elif self._cached:
            block, _ = self._cached.popitem(last=False)
            self.unpublish(block)
        else:
            return None
        self._holders[block] = 1
        return block

    def share(self, key: Digest) -> int | None:
        """Hold the block that is published under ``key``; None where there is none."""
        block = self._published.get(key)
        if block is not None:
            self._cached.pop(block, None)
            self._holders[block] += 1
        return block

    def release(self, block: int) -> None:
        """Hold it no longer.

        Raises:
            InvariantBroken: nobody holds it.
        """
        if self._holders[block] < 1:
            raise InvariantBroken(f"block {block} is released, but nobody holds it")
        self._holders[block] -= 1
        if self._holders[block] == 0:
            if block in self._keys:
                self._cached[block] = None
            else:
                self._free.append(block)

    def publish(self, block: int, key: Digest) -> None:
        """Let others find a full block; ignored where one with the same content is published already."""
        if key not in self._published and block not in self._keys:
            self._published[key] = block
            self._keys[block] = key

    def unpublish(self, block: int) -> None:
        """Take it out of the index: its holder is about to write, or it is given away."""
        key = self._keys.pop(block, None)
        if key is not None:
            del self._published[key]

    def is_shared(self, block: int) -> bool:
        """Whether somebody else holds it too."""
        return self._holders[block] > 1
