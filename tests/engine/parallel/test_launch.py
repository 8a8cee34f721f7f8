"""How ranks learn their places, and that none outlives the others."""

from __future__ import annotations

import subprocess
import sys

import pytest

from pipespec.engine.parallel.launch import Followers, Seat, seat_in_environment
from pipespec.ops.errors import SettingsError

SAYS_ITS_SEAT = (
    "import os, pathlib, sys; from pipespec.engine.parallel.launch import seat_in_environment as seat;"
    "rank = os.environ['LOCAL_RANK']; pathlib.Path(sys.argv[1], rank).write_text(f'{seat(3)} {sys.argv[2:]}')"
)
LEADER = """
import sys, threading
from pipespec.engine.parallel.launch import Followers
with Followers([sys.executable, "-c", {follower!r}], size=2):
    print("leads", flush=True)
    {then}
"""


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """Without the places that this test run itself may have."""
    for name in ("RANK", "LOCAL_RANK", "WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)
    return monkeypatch


def test_a_process_that_nobody_gave_a_seat_leads(environment):
    assert seat_in_environment(2) is None


def test_a_stage_that_is_not_split_has_no_seats(environment):
    """Job schedulers set these variables for their own reasons."""
    environment.setenv("RANK", "3")
    assert seat_in_environment(1) is None


def test_as_many_processes_as_ranks_are_wanted(environment):
    environment.setenv("RANK", "1")
    environment.setenv("WORLD_SIZE", "2")
    assert seat_in_environment(2) == Seat(rank=1, size=2)
    with pytest.raises(SettingsError, match=r"tensor_parallel 4, but .* one of 2"):
        seat_in_environment(4)


def test_followers_learn_seat_and_parent(environment, tmp_path):
    with Followers([sys.executable, "-c", SAYS_ITS_SEAT, str(tmp_path)], size=3):
        pass
    said = sorted(path.read_text() for path in tmp_path.iterdir())
    assert [line.split(" [")[0] for line in said] == ["Seat(rank=1, size=3)", "Seat(rank=2, size=3)"]
    assert all("'--parent'" in line for line in said)


def lead(*, follower: str, then: str) -> subprocess.CompletedProcess[str]:
    """Run a leader with one follower; returns when both have ended, for both hold the pipes."""
    program = LEADER.format(follower=follower, then=then)
    return subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False
    )


def test_a_leader_ends_when_a_follower_dies_though_it_waits(environment):
    ended = lead(follower="raise SystemExit(3)", then="threading.Event().wait()")
    assert ended.returncode == 1
    assert "stage.follower_ended" in ended.stdout
    assert "exit_code=3" in ended.stdout


def test_an_error_of_the_leader_kills_its_followers(environment):
    ended = lead(follower="import signal; signal.pause()", then="raise RuntimeError('the leader fails')")
    assert ended.returncode == 1
    assert "the leader fails" in ended.stderr


def test_a_leader_waits_for_followers_that_were_told_to_stop(environment):
    ended = lead(follower="print('goes in peace')", then="pass")
    assert (ended.returncode, ended.stdout.split()) == (0, ["leads", "goes", "in", "peace"])
