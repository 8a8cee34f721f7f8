"""Signals become one stop request; children end with their parent."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import threading

import psutil
import pytest

from pipespec.ops.lifecycle import Shutdown


def test_the_first_reason_stays() -> None:
    shutdown = Shutdown()
    assert not shutdown.wait(timeout_s=0)
    shutdown.set("first")
    shutdown.set("second")
    assert shutdown.is_set()
    assert shutdown.reason == "first"


def test_every_waiting_thread_wakes_up() -> None:
    shutdown = Shutdown()
    woken: list[bool] = []
    threads = [threading.Thread(target=lambda: woken.append(shutdown.wait(30))) for _ in range(3)]
    for thread in threads:
        thread.start()
    shutdown.set("enough")
    for thread in threads:
        thread.join()
    assert woken == [True, True, True]
    assert shutdown.wait(timeout_s=30)


def test_a_callback_is_called_once_whether_it_comes_before_or_after_the_end() -> None:
    shutdown = Shutdown()
    called: list[str] = []
    shutdown.call(lambda: called.append("before"))
    assert called == []
    shutdown.set("now")
    shutdown.set("again")
    shutdown.call(lambda: called.append("after"))
    assert called == ["before", "after"]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_and_names_itself(number: signal.Signals) -> None:
    with Shutdown.on_signals() as shutdown:
        signal.raise_signal(number)
        assert shutdown.wait(timeout_s=30)
        assert shutdown.reason == number.name


def test_a_second_signal_does_not_wait() -> None:
    forced: list[int] = []
    with Shutdown.on_signals(on_second=forced.append):
        signal.raise_signal(signal.SIGTERM)
        assert forced == []
        signal.raise_signal(signal.SIGINT)
    assert forced == [signal.SIGINT]


def test_handlers_are_put_back() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with Shutdown.on_signals():
        assert signal.getsignal(signal.SIGTERM) is not before
    assert signal.getsignal(signal.SIGTERM) is before


async def test_a_signal_reaches_the_event_loop_through_a_callback() -> None:
    loop, ended = asyncio.get_running_loop(), asyncio.Event()
    with Shutdown.on_signals() as shutdown:
        shutdown.call(lambda: loop.call_soon_threadsafe(ended.set))
        os.kill(os.getpid(), signal.SIGTERM)
        await asyncio.wait_for(ended.wait(), timeout=30)


CHILD = """
import os, sys
from pipespec.ops.lifecycle import end_with_parent
end_with_parent(int(sys.argv[1]))
print(os.getpid(), flush=True)
sys.stdin.read()
"""
PARENT = f"""
import os, subprocess, sys
child = subprocess.Popen([sys.executable, "-c", {CHILD!r}, str(os.getpid())], stdin=subprocess.PIPE)
child.wait()
"""


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel feature is Linux's")
def test_a_child_ends_when_its_parent_is_killed() -> None:
    with subprocess.Popen([sys.executable, "-c", PARENT], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        child = psutil.Process(int(parent.stdout.readline()))
        parent.kill()
        parent.wait()
        psutil.wait_procs([child], timeout=30)
        assert not child.is_running()


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel feature is Linux's")
def test_a_child_whose_parent_is_already_gone_ends_at_once() -> None:
    never = 2**22 + 1  # above the largest process id there is
    done = subprocess.run([sys.executable, "-c", CHILD, str(never)], stdin=subprocess.DEVNULL, check=False)
    assert done.returncode == 128 + signal.SIGKILL
