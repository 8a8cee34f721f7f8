"""The run folder of a named pipeline: its lock, its resolved pipeline file, its state and its logs.

Whoever holds the lock supervises; the lock goes with the process, however that ends, so a stale folder never looks
alive. A detached supervisor inherits the lock's open file and with it the lock.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import yaml

from pipespec.cli.local.layout import Layout
from pipespec.cli.local.process_birth import birth
from pipespec.models.cache import cache_root
from pipespec.ops.errors import PipespecError
from pipespec.ops.pipeline import Pipeline, load_pipeline


class AlreadyRunning(PipespecError):
    """A pipeline of this name runs on this machine."""


class NotRunning(PipespecError):
    """No such pipeline runs on this machine."""


@dataclass(frozen=True, slots=True)
class RunState:
    """What others may know of a running pipeline.

    Attributes:
        pid: of the supervisor.
        born: ``birth`` of that process.
        ready: whether requests are served.
        stage_ports: as in ``Layout``.
    """

    pid: int
    born: str | None
    ready: bool
    stage_ports: tuple[tuple[int, ...], ...]

    @property
    def is_current(self) -> bool:
        """Whether the supervisor still runs: its pid may belong to somebody else by now."""
        return self.born is not None and birth(self.pid) == self.born


class RunFolder:
    """One folder; nothing is created before it is written to."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.pipeline_file = path / "pipeline.yaml"
        self.logs = path / "logs"
        self._state_file = path / "state.json"
        self.lock_file = path / "lock"

    @property
    def name(self) -> str:
        """Of the pipeline."""
        return self.path.name

    @contextmanager
    def claimed(self) -> Iterator[int]:
        """Be this pipeline's supervisor while the block runs; yields the file descriptor that holds the lock.

        Raises:
            AlreadyRunning: somebody else is.
        """
        self.logs.mkdir(parents=True, exist_ok=True)
        lock = os.open(self.lock_file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            self._lock(lock)
            self._state_file.unlink(missing_ok=True)
            yield lock
        finally:
            os.close(lock)

    def _lock(self, lock: int) -> None:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise AlreadyRunning(
                f"pipeline {self.name!r} is already running; stop it with `pipespec down {self.name}` "
                "or give this one another name (--set name=other)"
            ) from None

    def is_claimed(self) -> bool:
        """Whether a supervisor holds the lock now."""
        try:
            lock = os.open(self.lock_file, os.O_RDWR | os.O_CLOEXEC)
        except FileNotFoundError:
            return False
        try:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except OSError:
            return True
        finally:
            os.close(lock)
        return False

    def write(self, layout: Layout, *, ready: bool) -> None:
        """Let others see the pipeline as it runs, supervised by this process."""
        self.logs.mkdir(parents=True, exist_ok=True)
        document = yaml.safe_dump(layout.pipeline.model_dump(mode="json"), sort_keys=False)
        _replace(self.pipeline_file, document)
        pid = os.getpid()
        state = RunState(pid=pid, born=birth(pid), ready=ready, stage_ports=layout.stage_ports)
        _replace(self._state_file, json.dumps(asdict(state)) + "\n")

    def layout(self) -> Layout:
        """What ``write`` wrote.

        Raises:
            NotRunning: nothing.
        """
        state = self.state()
        if state is None:
            raise NotRunning(f"pipeline {self.name!r} has not written its state")
        return Layout(load_pipeline(self.pipeline_file), state.stage_ports)

    def state(self) -> RunState | None:
        """The state as last written; None when there is none."""
        try:
            document = json.loads(self._state_file.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return None
        ports = tuple(tuple(ports) for ports in document["stage_ports"])
        return RunState(
            pid=document["pid"], born=document["born"], ready=document["ready"], stage_ports=ports
        )

    def last_log_lines(self, name: str, count: int = 40) -> str:
        """The end of the log of the process called ``name``."""
        text = (self.logs / f"{name}.log").read_text(encoding="utf-8", errors="replace")
        return "\n".join(text.splitlines()[-count:])

    def clear(self) -> None:
        """Remove the logs of earlier runs."""
        for log in self.logs.glob("*.log"):
            log.unlink(missing_ok=True)


def run_folder(name: str) -> RunFolder:
    """The folder of the pipeline called ``name``."""
    return RunFolder(cache_root() / "run" / name)


def running_folders() -> list[RunFolder]:
    """Folders of the pipelines that are supervised now, by name."""
    folders = (RunFolder(path) for path in sorted((cache_root() / "run").glob("*")))
    return [folder for folder in folders if folder.is_claimed()]


def serving_pipeline(name: str | None) -> Pipeline | None:
    """The running pipeline that a request should go to: the named one, or the only one that is ready.

    Raises:
        NotRunning: the named one is not ready, or there are several and none is named.
    """
    ready = [f for f in running_folders() if (state := f.state()) is not None and state.ready]
    if name is not None:
        ready = [folder for folder in ready if folder.name == name]
        if not ready:
            raise NotRunning(f"no pipeline {name!r} is running and ready; start it with `pipespec up`")
    if len(ready) > 1:
        names = ", ".join(folder.name for folder in ready)
        raise NotRunning(f"several pipelines are running ({names}); say which with --name")
    return ready[0].layout().pipeline if ready else None


def _replace(path: Path, text: str) -> None:
    scratch = path.with_suffix(".partial")
    scratch.write_text(text, encoding="utf-8")
    scratch.replace(path)
