"""The protocol's rules as switches, for tests alone.

Each switch turns one rule off, so that a test can show what it prevents: a rule whose absence nobody notices is
either idle or untested. Five are noticed by the simulation; three cover for each other while all replicas agree
and are shown one by one (``tests/protocol/test_rules.py``). Services always run with all of them on (``Rules()``).
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Rules:
    """All on by default.

    Attributes:
        check_digest: compare the digest at the first shared position before using a segment.
        later_rank_wins: a stage may not undo what a later stage has said.
        dedup_by_position: the gateway appends only what lies beyond its committed prefix.
        announce: repeat the window while a session is quiet, and the state on every heartbeat.
        sync: ask the gateway for what is missing.
        lease: free sessions that no state names.
        fence_epochs: drop messages of older routes and of other incarnations.
        decode_alone: a stage without a usable draft goes on by itself.
    """

    check_digest: bool = True
    later_rank_wins: bool = True
    dedup_by_position: bool = True
    announce: bool = True
    sync: bool = True
    lease: bool = True
    fence_epochs: bool = True
    decode_alone: bool = True
