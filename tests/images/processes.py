"""What the kernel knows of a container's first process: the truth about its rights."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from images.cluster import Cluster


@dataclass(frozen=True, slots=True)
class FirstProcess:
    """PID 1 of a container.

    Attributes:
        command: its arguments.
        uid: effective.
        capabilities: effective and those that it could ever get, as a bit mask.
        may_gain_rights: by programs with a set-uid bit, for example.
        is_root_writable: whether "/" is mounted writable.
        pid_inside: in its own namespace.
    """

    command: tuple[str, ...]
    uid: int
    gid: int
    capabilities: int
    may_gain_rights: bool
    is_root_writable: bool
    pid_inside: int


def first_process(cluster: Cluster, pod: str) -> FirstProcess:
    """Read it from ``/proc``."""
    folder = Path("/proc") / str(cluster.pid(pod))
    status = dict(line.split(":", maxsplit=1) for line in (folder / "status").read_text().splitlines())
    mounts = [line.split() for line in (folder / "mountinfo").read_text().splitlines()]
    (root,) = (mount for mount in mounts if mount[4] == "/")
    return FirstProcess(
        command=tuple((folder / "cmdline").read_text().rstrip("\0").split("\0")),
        uid=int(status["Uid"].split()[1]),
        gid=int(status["Gid"].split()[1]),
        capabilities=int(status["CapEff"], 16) | int(status["CapBnd"], 16),
        may_gain_rights=status["NoNewPrivs"].strip() != "1",
        is_root_writable="rw" in root[5].split(","),
        pid_inside=int(status["NSpid"].split()[-1]),
    )
