"""The supervisor against real processes: starts, restarts, gives up, leaves nothing."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from cli.supervisor.conftest import DEAF, DIE, SERVE, SICK, WITH_CHILD, until
from pipespec.cli.supervisor.child import CannotStart
from pipespec.cli.supervisor.restarts import RestartPolicy
from pipespec.cli.supervisor.spec import ProcessSpec
from pipespec.cli.supervisor.supervisor import KeepsDying, Supervisor

MakeSpec = Callable[..., ProcessSpec]
POLICY = RestartPolicy(first_wait_s=0.01, max_quick_deaths=2)
PROBING = replace(POLICY, probe_every_s=0.02, max_missed=3)


class Watched:
    """A supervisor that notes what it says."""

    def __init__(self, *specs: ProcessSpec, policy: RestartPolicy) -> None:
        self.notes: list[str] = []
        self.supervisor = Supervisor(specs, policy=policy, on_note=self.notes.append)

    def turn_until(self, condition: Callable[[], object]) -> None:
        def turned() -> object:
            self.supervisor.turn()
            return condition()

        until(turned)

    def ready(self) -> None:
        self.turn_until(lambda: self.supervisor.waits_for() == [])


@contextmanager
def watched(*specs: ProcessSpec, policy: RestartPolicy = POLICY) -> Iterator[Watched]:
    one = Watched(*specs, policy=policy)
    try:
        yield one
    finally:
        one.supervisor.kill()


def never() -> bool:
    return False


def pids(spec: ProcessSpec) -> list[int]:
    lines = spec.log.read_text().splitlines() if spec.log.exists() else []
    return [int(line.removeprefix("pid ")) for line in lines if line.startswith("pid ")]


def test_all_are_ready_when_each_says_so(spec: MakeSpec) -> None:
    broker, stage = spec("broker-0", SERVE), spec("stage-0", SERVE)
    with watched(broker, stage) as one:
        one.supervisor.turn()
        assert one.supervisor.waits_for() == ["broker-0", "stage-0"]
        one.ready()


def test_output_goes_to_the_log(spec: MakeSpec) -> None:
    stage = spec("stage-0", SERVE)
    with watched(stage) as one:
        one.ready()
        assert psutil.pid_exists(pids(stage)[0])


def test_stopping_ends_them_in_order_role_by_role(spec: MakeSpec, tmp_path: Path) -> None:
    order = tmp_path / "order"
    tell = SERVE.replace("os._exit(0)", f"open({str(order)!r}, 'a').write(sys.argv[2] + ' '); os._exit(0)")
    specs = [spec(name, tell) for name in ("broker-0", "stage-0", "gateway")]
    specs = [replace(one, argv=(*one.argv, one.name)) for one in specs]
    with watched(*specs) as one:
        one.ready()
        one.supervisor.stop(grace_s=30, is_forced=never)
    assert order.read_text().split() == ["gateway", "stage-0", "broker-0"]


def test_what_does_not_listen_is_killed_with_all_that_it_started(spec: MakeSpec) -> None:
    stage = spec("stage-0", WITH_CHILD)
    with watched(stage) as one:
        one.ready()
        process = psutil.Process(pids(stage)[0])
        family = [process, *process.children()]
        assert len(family) == 2
        one.supervisor.stop(grace_s=0.1, is_forced=never)
        _, alive = psutil.wait_procs(family, timeout=30)
        assert not [left for left in alive if left.status() != psutil.STATUS_ZOMBIE]


def test_forcing_does_not_wait_for_the_grace(spec: MakeSpec) -> None:
    stage = spec("stage-0", DEAF)
    with watched(stage) as one:
        one.ready()
        one.supervisor.stop(grace_s=3600, is_forced=lambda: True)
        assert not psutil.pid_exists(pids(stage)[0])


def test_a_process_that_dies_is_started_again_and_its_end_is_told(spec: MakeSpec) -> None:
    stage = spec("stage-0", SERVE)
    with watched(stage) as one:
        one.ready()
        os.kill(pids(stage)[0], signal.SIGKILL)
        one.turn_until(lambda: len(pids(stage)) == 2)
        one.ready()
        assert len(one.notes) == 1
        assert "stage-0 was ended by signal 9" in one.notes[0]
        assert str(stage.log) in one.notes[0]


def test_a_process_that_says_that_it_does_not_live_is_killed_and_started_again(spec: MakeSpec) -> None:
    stage = spec("stage-0", SICK)
    with watched(stage, policy=PROBING) as one:
        one.turn_until(lambda: len(pids(stage)) == 2)
        assert not psutil.pid_exists(pids(stage)[0])
        assert len(one.notes) == 1
        assert "stage-0 hung" in one.notes[0]
        assert f"{stage.live_url} said no or nothing, 3 times in a row" in one.notes[0]


def test_a_process_that_says_nothing_any_more_is_killed_and_started_again(
    spec: MakeSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipespec.cli.supervisor.child.PROBE_TIMEOUT_S", 0.1)
    stage = spec("stage-0", SERVE)
    with watched(stage, policy=replace(PROBING, max_missed=2)) as one:
        one.ready()
        os.kill(pids(stage)[0], signal.SIGSTOP)
        one.turn_until(lambda: len(pids(stage)) == 2)
        assert "stage-0 hung" in one.notes[0]


def test_a_process_that_does_not_become_ready_in_time_is_killed_and_started_again(spec: MakeSpec) -> None:
    stage = spec("stage-0", SERVE.replace("self.send_response(200)", "self.send_response(503)"))
    with watched(stage, policy=replace(POLICY, max_start_s=1.0)) as one:
        one.turn_until(lambda: len(pids(stage)) == 2)
        assert "stage-0 hung" in one.notes[0]
        assert f"{stage.ready_url} did not say yes within 1 s" in one.notes[0]


def test_only_misses_in_a_row_count(spec: MakeSpec) -> None:
    every_other = "Handler.n = Handler.n + 1; self.send_response(200 if Handler.n % 2 else 503)"
    code = SERVE.replace("self.send_response(200)", every_other).replace(
        "    def do_GET", "    n = 0\n    def do_GET"
    )
    stage = spec("stage-0", code)
    with watched(stage, policy=replace(PROBING, probe_every_s=0.0, max_missed=2)) as one:
        one.ready()
        for _ in range(50):
            one.supervisor.turn()
        assert one.notes == []


def test_a_process_that_keeps_dying_is_given_up_with_its_last_lines(spec: MakeSpec) -> None:
    stage = spec("stage-0", DIE.format(code=7))
    with (
        watched(stage) as one,
        pytest.raises(KeepsDying, match=r"(?s)stage-0 ended with code 7.*cannot go on"),
    ):
        one.turn_until(never)
    assert len(one.notes) == POLICY.max_quick_deaths


def test_wrong_settings_are_not_tried_twice(spec: MakeSpec) -> None:
    with watched(spec("stage-0", DIE.format(code=2))) as one, pytest.raises(KeepsDying, match="code 2"):
        one.turn_until(never)
    assert one.notes == []


def test_last_lines_are_those_of_the_last_run(spec: MakeSpec) -> None:
    stage = spec("stage-0", DIE.format(code=2))
    stage.log.write_text("from an earlier run\n")
    with watched(stage) as one, pytest.raises(KeepsDying) as raised:
        one.turn_until(never)
    assert "earlier" not in str(raised.value)


def test_a_command_that_does_not_exist_is_named(spec: MakeSpec) -> None:
    nothing = replace(spec("stage-0", ""), argv=("no-such-command",))
    with watched(nothing) as one, pytest.raises(CannotStart, match=r"stage-0 \(no-such-command\): No such"):
        one.supervisor.turn()


def test_children_lead_their_own_group_so_that_ctrl_c_reaches_only_the_supervisor(spec: MakeSpec) -> None:
    stage = spec("stage-0", SERVE)
    with watched(stage) as one:
        one.ready()
        assert os.getpgid(pids(stage)[0]) == pids(stage)[0] != os.getpgrp()


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_children_inherit_no_open_files(spec: MakeSpec, tmp_path: Path) -> None:
    stage = spec("stage-0", SERVE)
    with (tmp_path / "secret").open("w"), watched(stage) as one:
        one.ready()
        held = {file.path for file in psutil.Process(pids(stage)[0]).open_files()}
    assert str(tmp_path / "secret") not in held
