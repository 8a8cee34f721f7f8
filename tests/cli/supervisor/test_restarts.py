"""When a dead process is started again, and when it is given up."""

from __future__ import annotations

from pipespec.cli.supervisor.restarts import RestartPolicy, Restarts

POLICY = RestartPolicy(first_wait_s=1.0, longest_wait_s=3.0, good_run_s=10.0, max_quick_deaths=4)


def quick(restarts: Restarts) -> float | None:
    return restarts.after_death(exit_code=1, lived_s=0.5, was_ready=True)


def test_waits_double_up_to_the_longest_and_then_it_is_given_up() -> None:
    restarts = Restarts(POLICY)
    assert [quick(restarts) for _ in range(5)] == [1.0, 2.0, 3.0, 3.0, None]


def test_a_good_run_starts_the_count_over() -> None:
    restarts = Restarts(POLICY)
    assert [quick(restarts), quick(restarts)] == [1.0, 2.0]
    assert restarts.after_death(exit_code=1, lived_s=60.0, was_ready=True) == 1.0
    assert quick(restarts) == 2.0


def test_a_long_start_that_never_became_ready_is_no_good_run() -> None:
    restarts = Restarts(POLICY)
    waits = [restarts.after_death(exit_code=1, lived_s=60.0, was_ready=False) for _ in range(5)]
    assert waits[-1] is None


def test_a_settings_error_at_the_start_is_given_up_at_once() -> None:
    assert Restarts(POLICY).after_death(exit_code=2, lived_s=0.5, was_ready=False) is None


def test_the_same_exit_code_later_is_a_death_like_others() -> None:
    assert Restarts(POLICY).after_death(exit_code=2, lived_s=60.0, was_ready=True) == 1.0
