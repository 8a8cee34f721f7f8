"""A campaign counts every seed once, goes on where it stopped, and begins anew when the sources have changed."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from sim.campaign import CHUNK, Goal, run, run_chunk
from sim.ledger import Ledger, Share
from sim.single import FAULTS

SMALL = Goal(seeds=2 * CHUNK, modes=("single",), first=0, jobs=1)


def quiet() -> Console:
    return Console(file=io.StringIO())


def test_a_goal_gives_each_mode_its_part_and_tries_all_early() -> None:
    chunks = list(Goal(seeds=1000, modes=("safety", "core", "fork", "single"), first=0, jobs=1).chunks())
    assert len(chunks) == len(set(chunks)) == 1000 // CHUNK
    assert [mode for mode, _ in chunks].count("safety") == 400 // CHUNK
    assert {mode for mode, _ in chunks[:10]} == {"safety", "core", "fork", "single"}


def test_a_chunk_counts_its_seeds_and_the_pauses_of_single_faults() -> None:
    (mode, first), share = run_chunk(("single", 0))
    assert (mode, first, share.seeds, share.violations) == ("single", 0, CHUNK, [])
    assert set(share.pauses) == set(list(FAULTS)[:CHUNK])
    assert share.pause_ms()["target_dead"]["p50"] > share.pause_ms()["none"]["p50"]


def test_what_is_done_is_not_done_again(tmp_path: Path) -> None:
    file = tmp_path / "ledger.json"
    ledger = Ledger.open(file, chunk=CHUNK, afresh=False)
    assert run(SMALL, ledger, file, quiet())
    again = Ledger.open(file, chunk=CHUNK, afresh=False)
    assert again == ledger
    assert run(SMALL, again, file, quiet())
    assert again.total.seeds == 2 * CHUNK


@pytest.mark.parametrize("afresh", [True, False])
def test_other_sources_or_a_wish_begin_a_new_ledger(tmp_path: Path, afresh: bool) -> None:
    file = tmp_path / "ledger.json"
    kept = Ledger.open(file, chunk=CHUNK, afresh=False)
    kept.add("single", 0, Share(seeds=CHUNK))
    (kept if afresh else replace(kept, sources="others")).save(file)
    assert Ledger.open(file, chunk=CHUNK, afresh=afresh).total.seeds == 0


def test_shares_add_up() -> None:
    total = Share(seeds=1, faults={"cut": 2}, slowest_s=0.5)
    total.note_pauses("none", (0.010, 0.020))
    other = Share(seeds=2, faults={"cut": 1, "frozen": 1}, slowest_s=0.1)
    other.note_pauses("none", (0.020, 0.400))
    total.add(other)
    assert (total.seeds, total.slowest_s, total.faults) == (3, 0.5, {"cut": 3, "frozen": 1})
    assert total.pause_ms()["none"] == {"sessions": 4, "p50": 20, "p99": 400, "max": 400}
