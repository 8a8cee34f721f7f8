"""The protocol's rules as switches, for tests alone.

Each switch turns one rule off, so that a test can show what it prevents: a rule whose absence nobody notices is
either idle or untested. ``tests/sim/test_switches.py`` turns them off, alone or, where two cover for each other, in pairs; what
notices each is in ``docs/simulation.md``. Services always run with all of them on (``Rules()``).
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Rules:
    """All on by default; in brackets the rule of RELIABILITY section 2.

    Attributes:
        first_branch_stays: the gateway never changes what it has committed [R1].
        check_digest: compare the digest at the first shared position before using a segment [R2, R4].
        check_seal: drop a message that was damaged on the way [R2].
        check_identity: replicas of another vocabulary or, for a target, other weights get no work [R2].
        whole_window: say everything since the last committed position that is known, never a delta [R3].
        bounded_window: stop at a full window [R3].
        later_rank_wins: a stage may not undo what a later stage has said [R4].
        dedup_by_position: the gateway appends only what lies beyond its committed prefix [R4].
        state_corrects: ``state`` truncates whatever disagrees with it [R5].
        announce_states: the gateway repeats the state of all sessions on every heartbeat [R6].
        repeat_windows: a stage repeats its window while a session is quiet [R6].
        sync: ask the gateway for what is missing [R7].
        pace_syncs: at most once per session and ``sync_s`` [R7].
        suspect_silent: a replica without a heartbeat for ``dead_s`` gets no work [R10].
        watch_turns: a replica whose loop stands still gets no work although it beats [R10].
        suspect_stalled: a target that lets a session rest for ``stall_s`` is replaced [R11].
        target_alone_resets_stall: the move of an optional stage does not start the stall timer anew [R11].
        decode_alone: a stage without a usable draft goes on by itself [R12].
        fence_epochs: drop messages of older routes [R13].
        fence_incarnations: drop duplicates and what a former process of the same name has said [R13].
        lease: free sessions that no state names [R14].
        bury_closed: what was closed is not opened again by a late message [R14].
    """

    first_branch_stays: bool = True
    check_digest: bool = True
    check_seal: bool = True
    check_identity: bool = True
    whole_window: bool = True
    bounded_window: bool = True
    later_rank_wins: bool = True
    dedup_by_position: bool = True
    state_corrects: bool = True
    announce_states: bool = True
    repeat_windows: bool = True
    sync: bool = True
    pace_syncs: bool = True
    suspect_silent: bool = True
    watch_turns: bool = True
    suspect_stalled: bool = True
    target_alone_resets_stall: bool = True
    decode_alone: bool = True
    fence_epochs: bool = True
    fence_incarnations: bool = True
    lease: bool = True
    bury_closed: bool = True
