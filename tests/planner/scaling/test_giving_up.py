"""Replicas are given up a few at a time, and not while they are needed for something else."""

from __future__ import annotations

from typing import Any

import pytest

from pipespec.planner.scaling.giving_up import limited
from planner.scaling.fleets import load, pair

STAGES = pair().stages


def asked_for(
    asked: tuple[int, int], wanted: tuple[int, int], sessions: int, **seen: Any
) -> tuple[tuple[int, ...], str]:
    replicas, held = limited(load(0, asked, sessions, **seen), STAGES, needed=wanted, steadied=wanted)
    return replicas, "; ".join(held)


def test_a_quarter_at_a_time_while_sessions_have_to_be_moved() -> None:
    assert asked_for((2, 12), (2, 1), 20)[0] == (2, 9)
    assert asked_for((2, 2), (2, 1), 20)[0] == (2, 1)


def test_all_at_once_where_nobody_has_to_be_moved() -> None:
    assert asked_for((2, 12), (1, 1), 0)[0] == (1, 1)


def test_never_below_what_holds_the_sessions() -> None:
    replicas, why = asked_for((2, 4), (2, 1), 250)
    assert replicas == (2, 4)
    assert "stage 1: 1 later" in why


@pytest.mark.parametrize(
    ("seen", "why"),
    [
        ({"draining": (0, 1)}, "1 drain already"),
        ({"refused": 4}, "while requests are refused"),
        ({"ready": (1, 8)}, "while stage 0 loads"),
    ],
)
def test_nothing_is_given_up_while_something_else_goes_on(seen: dict[str, Any], why: str) -> None:
    replicas, held = asked_for((2, 8), (2, 1), 20, **seen)
    assert replicas == (2, 8)
    assert why in held


def test_a_draft_that_loads_and_is_not_needed_holds_nothing_back() -> None:
    assert asked_for((4, 8), (0, 6), 20, ready=(1, 8))[0][1] == 6


def test_limits_of_the_settings_hold_at_once() -> None:
    assert asked_for((20, 20), (20, 20), 20)[0] == (16, 16)
    assert asked_for((1, 0), (1, 0), 0)[0] == (1, 1)
