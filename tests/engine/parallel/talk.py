"""A program of two ranks that talk, without a model; the first argument says how it ends. Each prints what it sees."""

# ruff: noqa: T201 - what a program says

from __future__ import annotations

import os
import signal
import sys
import time
from datetime import timedelta
from pathlib import Path

from torch.distributed import TCPStore

from pipespec.engine.parallel.group import RankGroup, RankLost
from pipespec.engine.parallel.launch import Followers, seat_in_environment, use_loopback

STEP_TIMEOUT = timedelta(seconds=1)
MESSAGES = (b"", b"short", bytes(range(256)) * 100)


def lead(ending: str) -> None:
    """Tell, idle longer than a step may take, tell again, and end as asked."""
    with Followers([sys.executable, str(Path(__file__)), ending], size=2) as followers:
        host, port = followers.listener.getsockname()
        descriptor = followers.listener.detach()
        store = TCPStore(host, port, is_master=True, wait_for_workers=False, master_listen_fd=descriptor)
        group = RankGroup(store, rank=0, size=2, device="cpu", step_timeout=STEP_TIMEOUT)
        print("minimum", group.minimum(5), flush=True)
        group.send(MESSAGES[0])
        time.sleep(1.5 * STEP_TIMEOUT.total_seconds())  # real time: the timeout under test is torch's
        for message in MESSAGES[1:]:
            group.send(message)
        if ending == "leader dies":
            os._exit(0)
        try:
            group.send(b"anyone there?")
        except RankLost as error:
            print("leader:", error, flush=True)
            raise


def follow(ending: str) -> None:
    """Listen to all messages, then hang or listen for more."""
    host, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
    store = TCPStore(host, port, is_master=False)
    group = RankGroup(store, rank=1, size=2, device="cpu", step_timeout=STEP_TIMEOUT)
    group.minimum(3)
    print("received all:", tuple(group.receive() for _ in MESSAGES) == MESSAGES, flush=True)
    if ending == "follower hangs":
        signal.pause()
    try:
        group.receive()
    except RankLost as error:
        print("follower:", error, flush=True)


if __name__ == "__main__":
    use_loopback()
    (follow if seat_in_environment(2) else lead)(sys.argv[1])
