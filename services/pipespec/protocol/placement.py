"""Which of a stage's replicas takes a session: one that has read the beginning of its prompt, where its load allows it.

Sans-I/O. A gateway remembers where it sent which beginnings. A replica that has read one keeps it in its prefix cache, so the
longest known beginning wins; but no replica gets more than its share by ``slack`` ("consistent hashing with bounded
loads", Mirrokni, Thorup, Zadimoghaddam 2018). Nobody has to be right: a wrong guess costs one prefill.
"""

from __future__ import annotations

import math
from array import array
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from hashlib import blake2b
from typing import Protocol

from pipespec.protocol.ids import Member, Rank, TokenId

PREFIX_BLOCK = 64
"""Tokens; beginnings are compared in multiples of it."""
_MAX_BLOCKS = 256
"""Of one prompt; what is equal for longer than this is as good as equal."""
_REMEMBERED = 100_000
"""Beginnings, over all replicas; those used last stay."""

PrefixKeys = tuple[bytes, ...]
"""One per whole block of a prompt, each over all tokens up to the end of its block."""


def prefix_keys(prompt: Sequence[TokenId]) -> PrefixKeys:
    """Keys of a prompt's beginnings, the shortest first; none for a prompt below ``PREFIX_BLOCK`` tokens."""
    keys: list[bytes] = []
    key = b""
    for end in range(PREFIX_BLOCK, min(len(prompt), _MAX_BLOCKS * PREFIX_BLOCK) + 1, PREFIX_BLOCK):
        block = array("I", prompt[end - PREFIX_BLOCK : end]).tobytes()
        key = blake2b(key + block, digest_size=8).digest()
        keys.append(key)
    return tuple(keys)


class Placement(Protocol):
    """Chooses replicas."""

    def choose(self, loads: Mapping[Member, int], prefix: PrefixKeys) -> Member:
        """One of a stage's replicas that have room.

        Args:
            loads: their sessions; at least one replica.
            prefix: of the session's prompt.
        """

    def placed(self, member: Member, prefix: PrefixKeys) -> None:
        """A session with that prompt went to ``member``."""


class PrefixAffinity:
    """The replica that knows most of the prompt, while it is not overloaded; else the least loaded one.

    Args:
        slack: sessions that a replica may have, as a multiple of the stage's mean.
    """

    def __init__(self, *, slack: float = 1.25) -> None:
        self._slack = slack
        self._known: OrderedDict[tuple[Rank, bytes], Member] = OrderedDict()

    def choose(self, loads: Mapping[Member, int], prefix: PrefixKeys) -> Member:
        """See ``Placement``. Among equally loaded ones the beginning decides, alike in all gateways, then the name."""
        rank = next(iter(loads))[0]
        most = math.ceil(self._slack * (sum(loads.values()) + 1) / len(loads))
        for key in reversed(prefix):
            member = self._known.get((rank, key))
            if member is not None and member in loads:
                if loads[member] < most:
                    return member
                break
        first = prefix[0] if prefix else b""
        return min(loads, key=lambda member: (loads[member], _order(first, member), member))

    def placed(self, member: Member, prefix: PrefixKeys) -> None:
        """See ``Placement``."""
        for key in prefix:
            known = (member[0], key)
            self._known[known] = member
            self._known.move_to_end(known)
        while len(self._known) > _REMEMBERED:
            self._known.popitem(last=False)


def _order(first: bytes, member: Member) -> bytes:
    """Rendezvous hashing (Thaler, Ravishankar 1998)."""
    return blake2b(first + member[1].encode(), digest_size=8).digest() if first else b""
