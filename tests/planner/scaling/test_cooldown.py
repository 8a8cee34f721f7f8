"""Up when a need lasts, down when it has been gone."""

from __future__ import annotations

from pipespec.planner.scaling.cooldown import Cooldown


def test_up_at_once_and_down_after_the_wait() -> None:
    cooldown = Cooldown(up_s=0, down_s=60, surge_s=0)
    assert cooldown.steadied(0, asked=(1, 2), needed=(3, 2)) == (3, 2)
    assert [cooldown.steadied(at, asked=(3, 2), needed=(1, 1)) for at in (15, 30, 45, 60)] == [(3, 2)] * 4
    assert cooldown.steadied(75, asked=(3, 2), needed=(1, 1)) == (1, 1)


def test_what_was_asked_for_at_the_beginning_counts_as_needed() -> None:
    cooldown = Cooldown(up_s=0, down_s=60, surge_s=0)
    assert cooldown.steadied(1000, asked=(5,), needed=(1,)) == (5,)
    assert cooldown.steadied(1059, asked=(5,), needed=(1,)) == (5,)
    assert cooldown.steadied(1060, asked=(5,), needed=(1,)) == (1,)


def test_down_to_the_largest_need_of_the_wait() -> None:
    cooldown = Cooldown(up_s=0, down_s=60, surge_s=0)
    needs = [(9,), (2,), (4,), (1,), (1,), (1,)]
    seen = [cooldown.steadied(15.0 * n, asked=(9,), needed=need) for n, need in enumerate(needs)]
    assert seen[-1] == (4,)


def test_a_need_that_does_not_last_is_waited_out() -> None:
    cooldown = Cooldown(up_s=30, down_s=60, surge_s=0)
    needs = [(4,), (1,), (4,), (3,), (4,), (4,)]
    seen = [cooldown.steadied(15.0 * n, asked=(1,), needed=need) for n, need in enumerate(needs)]
    assert seen == [(1,), (1,), (1,), (1,), (3,), (3,)]


def test_what_a_surge_needed_is_kept_for_longer() -> None:
    cooldown = Cooldown(up_s=0, down_s=30, surge_s=120)
    assert cooldown.steadied(0, asked=(1, 1), needed=(2, 4), in_surge=True) == (2, 4)
    seen = [cooldown.steadied(at, asked=(2, 5), needed=(1, 1)) for at in (15.0, 60.0, 105.0, 120.0)]
    assert seen == [(2, 4), (2, 4), (2, 4), (1, 1)]
