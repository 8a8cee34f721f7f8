"""The processes of a stage's ranks: who this one is, and the followers that a leader starts.

A rank learns its seat as torchrun tells it, in environment variables: ``RANK``, ``LOCAL_RANK``, ``WORLD_SIZE``,
``MASTER_ADDR``, ``MASTER_PORT``. So a stage runs under torchrun as it is; without it the first process leads and starts the
others, in its own process group, where whoever signals or kills the stage reaches all of it. Nobody outlives the leader:
the kernel sees to that. The leader ends when a follower does. Nothing here needs torch.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import structlog

from pipespec.ops.errors import SettingsError

HOST = "127.0.0.1"
STOP_S = 10.0
"""For a follower to end after the leader has said stop."""

_LAST_WORDS_S = 1.0
"""After a follower's death the leader often fails by itself, and can say more than that it did."""

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Seat:
    """Which rank this process was started as."""

    rank: int
    size: int


def seat_in_environment(size: int) -> Seat | None:
    """The seat that whoever started this process gave it; None: nobody did, so it leads, and starts the others.

    Args:
        size: ranks of the stage; a stage that is not split has no places.

    Raises:
        SettingsError: it was started as one of another number of ranks.
    """
    if size == 1 or "RANK" not in os.environ:
        return None
    seat = Seat(rank=int(os.environ["RANK"]), size=int(os.environ.get("WORLD_SIZE", "1")))
    if seat.size != size:
        raise SettingsError(
            f"the stage has tensor_parallel {size}, but this process was started as one of {seat.size} (WORLD_SIZE); "
            "start as many, or none: then the stage starts them itself"
        )
    return seat


def ignore_signals() -> None:
    """Leave it to the leader when to end: a signal to the whole process group reaches followers too."""
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)


def use_loopback() -> None:
    """Have gloo, which has no authentication, listen where only this machine can connect."""
    names = {name for _, name in socket.if_nameindex()}
    for loopback in names & {"lo", "lo0"}:
        os.environ.setdefault("GLOO_SOCKET_IFNAME", loopback)


class Followers:
    """Ranks 1 … size-1 as child processes. Leave the block by an error, and they are killed; else they must have been stopped.

    Args:
        command: what starts a rank; ``--parent`` and the leader's pid are added.
        size: how many ranks there are, with the leader.

    Attributes:
        listener: bound to the port at which followers look for the leader's store.
    """

    def __init__(self, command: Sequence[str], *, size: int) -> None:
        self.listener = socket.create_server((HOST, 0))
        self._is_ending = False
        self._processes = [self._start(command, rank, size) for rank in range(1, size)]
        self._watchers = [
            threading.Thread(target=self._watch, args=(rank, process), name=f"follower-{rank}")
            for rank, process in enumerate(self._processes, start=1)
        ]
        for watcher in self._watchers:
            watcher.start()

    def _start(self, command: Sequence[str], rank: int, size: int) -> subprocess.Popen[bytes]:
        environment = {
            **os.environ,
            "RANK": str(rank),
            "LOCAL_RANK": str(rank),
            "WORLD_SIZE": str(size),
            "MASTER_ADDR": HOST,
            "MASTER_PORT": str(self.listener.getsockname()[1]),
        }
        return subprocess.Popen(  # noqa: S603 - this command again
            [*command, "--parent", str(os.getpid())], env=environment, stdin=subprocess.DEVNULL
        )

    def _watch(self, rank: int, process: subprocess.Popen[bytes]) -> None:
        exit_code = process.wait()
        if exit_code != 0:
            time.sleep(_LAST_WORDS_S)
        if exit_code != 0 and not self._is_ending:
            log.error("stage.follower_ended", tensor_rank=rank, exit_code=exit_code)
            # The main thread may wait for this rank in a collective, where no exception would reach it.
            os._exit(1)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, error_type: type[BaseException] | None, *_: object) -> None:
        self._is_ending = True
        self.listener.close()
        until_s = time.monotonic() + (STOP_S if error_type is None else 0.0)
        for process in self._processes:
            try:
                process.wait(max(0.0, until_s - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()
        for watcher in self._watchers:
            watcher.join()
