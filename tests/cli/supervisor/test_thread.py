"""The supervisor in its thread: ready, failing, interrupted, killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable

import psutil
import pytest

from cli.supervisor.conftest import DEAF, DIE, SERVE, until
from cli.supervisor.test_supervisor import POLICY, pids
from pipespec.cli.supervisor.spec import ProcessSpec
from pipespec.cli.supervisor.supervisor import KeepsDying, Supervisor
from pipespec.cli.supervisor.thread import NotReady, SupervisorThread, supervised

MakeSpec = Callable[..., ProcessSpec]


def ignore(_: object) -> None:
    """Nobody listens."""


def supervisor(*specs: ProcessSpec) -> Supervisor:
    return Supervisor(specs, policy=POLICY, on_note=ignore)


def ready(thread: SupervisorThread) -> None:
    thread.wait_until_ready(30, on_waiting=ignore)


def test_nothing_is_left_after_the_block(spec: MakeSpec) -> None:
    stage = spec("stage-0", SERVE)
    with supervised(supervisor(stage), grace_s=15) as thread:
        ready(thread)
        (pid,) = pids(stage)
        assert psutil.pid_exists(pid)
    assert not psutil.pid_exists(pid)
    assert "ended in order" in stage.log.read_text()


def test_nothing_is_left_when_the_block_fails(spec: MakeSpec) -> None:
    stage = spec("stage-0", SERVE)

    def fail() -> None:
        with supervised(supervisor(stage), grace_s=15) as thread:
            ready(thread)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert not psutil.pid_exists(pids(stage)[0])


def test_a_process_that_is_given_up_ends_the_others_and_the_wait(spec: MakeSpec) -> None:
    good, bad = spec("broker-0", SERVE), spec("stage-0", DIE.format(code=2))
    with (
        supervised(supervisor(good, bad), grace_s=15) as thread,
        pytest.raises(KeepsDying, match="cannot go on"),
    ):
        ready(thread)
    assert not [pid for pid in pids(good) if psutil.pid_exists(pid)]


def test_waiting_says_for_whom_and_not_forever(spec: MakeSpec) -> None:
    slow = spec("stage-0", "import time; time.sleep(1000)")
    told: list[list[str]] = []
    with supervised(supervisor(slow), grace_s=0.1) as thread, pytest.raises(NotReady, match="stage-0"):
        thread.wait_until_ready(1.0, on_waiting=told.append)
    assert ["stage-0"] in told


def test_ctrl_c_while_waiting_leaves_nothing(spec: MakeSpec) -> None:
    """A join that Ctrl-C interrupts would take the thread for ended and leave its children."""
    stage = spec("stage-0", SERVE)

    def wait() -> None:
        with supervised(supervisor(stage), grace_s=15) as thread:
            ready(thread)
            threading.Timer(0.1, os.kill, [os.getpid(), signal.SIGINT]).start()
            thread.wait(30)

    with pytest.raises(KeyboardInterrupt):
        wait()
    assert not psutil.pid_exists(pids(stage)[0])
    assert "ended in order" in stage.log.read_text()


def test_a_second_ctrl_c_does_not_wait_for_the_deaf(spec: MakeSpec) -> None:
    stage = spec("stage-0", DEAF)
    with supervised(supervisor(stage), grace_s=3600) as thread:
        ready(thread)
        threading.Timer(0.1, os.kill, [os.getpid(), signal.SIGINT]).start()
    assert not psutil.pid_exists(pids(stage)[0])


def test_ctrl_c_while_the_thread_starts_leaves_nothing(
    spec: MakeSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage = spec("stage-0", SERVE)
    start = SupervisorThread.start

    def interrupted(thread: SupervisorThread) -> None:
        start(thread)
        until(lambda: pids(stage))
        raise KeyboardInterrupt

    monkeypatch.setattr(SupervisorThread, "start", interrupted)
    with pytest.raises(KeyboardInterrupt), supervised(supervisor(stage), grace_s=15):
        pass
    assert not psutil.pid_exists(pids(stage)[0])


def test_a_thread_that_is_stopped_before_it_starts_starts_nothing(spec: MakeSpec) -> None:
    stage = spec("stage-0", SERVE)
    thread = SupervisorThread(supervisor(stage), grace_s=15)
    thread.stop()
    thread.start()
    thread.stop()
    assert not stage.log.exists()


def test_a_thread_that_nobody_stops_ends_with_its_maker(spec: MakeSpec) -> None:
    stage = spec("stage-0", SERVE)

    def make_and_forget() -> None:
        thread = SupervisorThread(supervisor(stage), grace_s=15)
        thread.start()
        ready(thread)

    maker = threading.Thread(target=make_and_forget)
    maker.start()
    maker.join()
    until(lambda: not psutil.pid_exists(pids(stage)[0]))
    assert "ended in order" in stage.log.read_text()


KILLED = """
import os, sys
from pathlib import Path
from pipespec.cli.supervisor.restarts import RestartPolicy
from pipespec.cli.supervisor.spec import ProcessSpec
from pipespec.cli.supervisor.supervisor import Supervisor
from pipespec.cli.supervisor.thread import supervised

child = "from pipespec.ops.lifecycle import end_with_parent; import os, time\\n"
child += f"end_with_parent({os.getpid()}); print('pid', os.getpid(), flush=True); time.sleep(1000)"
log = Path(sys.argv[1])
spec = ProcessSpec("stage-0", "stage", (sys.executable, "-c", child), os.environ, log, *["http://127.0.0.1:9/"] * 2)
with supervised(Supervisor([spec], policy=RestartPolicy(), on_note=print), grace_s=15) as thread:
    thread.wait(1000)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel feature is Linux's")
def test_a_killed_supervisor_leaves_no_children(spec: MakeSpec) -> None:
    stage = spec("stage-0", "")
    with subprocess.Popen([sys.executable, "-c", KILLED, str(stage.log)]) as process:
        until(lambda: pids(stage))
        child = psutil.Process(pids(stage)[0])
        os.kill(process.pid, signal.SIGKILL)
    psutil.wait_procs([child], timeout=30)
    assert not child.is_running()
