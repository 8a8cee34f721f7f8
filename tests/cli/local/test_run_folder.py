"""The run folder: one supervisor at a time, seen by everyone else."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from pipespec.cli.local.layout import Layout
from pipespec.cli.local.run_folder import (
    AlreadyRunning,
    NotRunning,
    run_folder,
    running_folders,
    serving_pipeline,
)
from pipespec.ops.pipeline import Pipeline, parse_pipeline

pytestmark = pytest.mark.usefixtures("cache")


def pipeline(name: str) -> Pipeline:
    return parse_pipeline({"name": name, "stages": [{"model": "a/b"}]}, source="test")


def write(name: str, *, ready: bool) -> None:
    run_folder(name).write(Layout(pipeline(name), ((7,),)), ready=ready)


def test_a_folder_has_one_supervisor_at_a_time() -> None:
    folder = run_folder("one")
    with folder.claimed(), pytest.raises(AlreadyRunning, match="pipespec down one"), folder.claimed():
        pass
    with folder.claimed():
        assert folder.is_claimed()
    assert not folder.is_claimed()


def test_a_killed_supervisor_leaves_the_folder_free() -> None:
    hold = (
        "from pipespec.cli.local.run_folder import run_folder\n"
        "with run_folder('one').claimed():\n    print('held', flush=True); input()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", hold], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        assert [folder.name for folder in running_folders()] == ["one"]
        process.kill()
    assert running_folders() == []


def test_a_child_that_inherits_the_lock_keeps_it() -> None:
    folder = run_folder("one")
    with folder.claimed() as lock:
        child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE, pass_fds=[lock])
    with child:
        assert folder.is_claimed()
    assert not folder.is_claimed()


def test_what_is_written_can_be_read_by_others() -> None:
    write("one", ready=True)
    layout = run_folder("one").layout()
    assert layout == Layout(pipeline("one"), ((7,),))
    state = run_folder("one").state()
    assert state is not None
    assert state.ready


def test_claiming_forgets_the_state_of_an_earlier_run() -> None:
    write("one", ready=True)
    with run_folder("one").claimed():
        assert run_folder("one").state() is None


def test_requests_go_to_the_only_pipeline_that_is_ready() -> None:
    assert serving_pipeline(None) is None
    with run_folder("one").claimed(), run_folder("two").claimed():
        write("one", ready=True)
        write("two", ready=False)
        assert serving_pipeline(None) == pipeline("one")
        with pytest.raises(NotRunning, match="'two'"):
            serving_pipeline("two")


def test_several_pipelines_need_a_name() -> None:
    with run_folder("one").claimed(), run_folder("two").claimed():
        write("one", ready=True)
        write("two", ready=True)
        with pytest.raises(NotRunning, match="one, two"):
            serving_pipeline(None)
        assert serving_pipeline("two") == pipeline("two")


def test_a_folder_that_nobody_supervises_serves_nothing(cache: Path) -> None:
    write("one", ready=True)
    assert serving_pipeline(None) is None
