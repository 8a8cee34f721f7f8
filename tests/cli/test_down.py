"""``pipespec down`` ends the supervisor that holds the lock, nobody else, and not forever."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from cli.local.test_layout import pipeline
from cli.local.test_run_folder import write
from pipespec.cli.down import NotStopped, stop
from pipespec.cli.local.layout import lay_out
from pipespec.cli.local.run_folder import RunFolder, run_folder

pytestmark = pytest.mark.usefixtures("cache")

SUPERVISOR = """
import signal, sys
from cli.local.test_run_folder import write
from pipespec.cli.local.run_folder import run_folder
if sys.argv[1] == "deaf":
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
with run_folder("one").claimed():
    write("one", ready=True)
    print("held", flush=True)
    input()
"""


@contextmanager
def python(code: str, *arguments: str) -> Iterator[subprocess.Popen[bytes]]:
    """A process that has said something and waits for its input."""
    command = [sys.executable, "-c", code, *arguments]
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=env) as process:
        assert process.stdout is not None
        process.stdout.readline()
        try:
            yield process
        finally:
            process.kill()


def say_that_it_is(folder: RunFolder, **fields: object) -> None:
    file = folder.path / "state.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **fields}))


def test_a_supervisor_is_asked_to_end() -> None:
    with python(SUPERVISOR, "polite") as process:
        stop(run_folder("one"), patience_s=30, margin_s=0)
        assert process.wait(30) == -15


def test_one_that_does_not_listen_is_killed() -> None:
    with python(SUPERVISOR, "deaf") as process:
        stop(run_folder("one"), patience_s=0.2, margin_s=30)
        assert process.wait(30) == -9


def test_a_pid_that_somebody_else_has_by_now_is_not_signalled_and_the_wait_ends() -> None:
    with python("print(flush=True); input()") as stranger, run_folder("one").claimed():
        write("one", ready=True)
        say_that_it_is(run_folder("one"), pid=stranger.pid)
        with pytest.raises(NotStopped, match=f"process {stranger.pid}, which has ended"):
            stop(run_folder("one"), patience_s=0.1, margin_s=0.1)
        assert stranger.poll() is None


def test_a_successor_that_names_itself_late_is_asked_too() -> None:
    """``up --detach`` was killed while its supervisor starts: the state still names the dead one."""
    with python(SUPERVISOR, "polite") as process:
        folder = run_folder("one")
        late = (folder.path / "state.json").read_text()
        say_that_it_is(folder, born="earlier")
        with pytest.raises(NotStopped):
            stop(folder, patience_s=0.1, margin_s=0.1)
        assert process.poll() is None
        (folder.path / "state.json").write_text(late)
        stop(folder, patience_s=30, margin_s=0)
        assert process.wait(30) == -15


def test_a_detached_supervisor_names_itself_before_it_is_ready() -> None:
    folder = run_folder("one")
    with folder.claimed() as lock:
        folder.write(lay_out(pipeline()), ready=False)
        command = [sys.executable, "-m", "pipespec.cli", "supervise", str(folder.path)]
        command += ["--lock", str(lock), "--timeout", "0"]
        with subprocess.Popen(command, pass_fds=[lock], stderr=subprocess.DEVNULL) as process:
            process.wait(60)
    state = folder.state()
    assert state is not None
    assert (state.pid, state.ready) == (process.pid, False)
