"""What ranks say to each other, and what each sees when the other one hangs or dies."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

PROGRAM = Path(__file__).with_name("talk.py")


def talk(ending: str) -> tuple[str, int]:
    """What both ranks printed, and the leader's exit code; returns when both have ended."""
    ended = subprocess.run(
        [sys.executable, str(PROGRAM), ending], capture_output=True, text=True, timeout=120, check=False
    )
    return ended.stdout, ended.returncode


def test_a_follower_waits_for_ever_but_the_leader_not_for_a_follower_that_hangs():
    said, exit_code = talk("follower hangs")
    assert "minimum 3" in said
    assert "received all: True" in said  # one of them after an idle time longer than the step timeout
    assert "leader: a follower of this stage ended or hangs" in said
    assert exit_code == 1


def test_a_follower_ends_its_wait_when_the_leader_is_gone():
    said, _ = talk("leader dies")
    assert "follower: the leader of this stage ended without a word" in said
