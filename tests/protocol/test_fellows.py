"""Which gateways may exist, by what was heard of them."""

from __future__ import annotations

import pytest

from pipespec.ops.pipeline import TimerSettings
from pipespec.protocol import fellows
from pipespec.protocol.fellows import Fellows
from pipespec.protocol.ids import gateway_inbox
from pipespec.protocol.timers import Timers

TIMERS = Timers.of(TimerSettings(heartbeat_ms=100, dead_ms=1000, lost_ms=30_000))
G0, G1, NOBODY = gateway_inbox("g0"), gateway_inbox("g1"), gateway_inbox("nobody")


def listening(heard: Fellows, *, since: float, until: float) -> None:
    """This gateway hears itself ten times a second."""
    for tick in range(round(10 * since), round(10 * until) + 1):
        heard.on_heartbeat(tick / 10, G0)


def test_a_name_that_was_never_heard_is_nobodys() -> None:
    heard = Fellows(TIMERS)
    listening(heard, since=0, until=2)
    heard.on_heartbeat(2, G1)
    assert [heard.may_exist(2, inbox) for inbox in (G0, G1, NOBODY)] == [True, True, False]


def test_who_has_just_begun_to_listen_takes_every_name_for_somebodys() -> None:
    heard = Fellows(TIMERS)
    assert heard.may_exist(0, NOBODY)
    listening(heard, since=5, until=5.9)
    assert heard.may_exist(5.9, NOBODY)
    listening(heard, since=6, until=6.1)
    assert not heard.may_exist(6.1, NOBODY)


def test_who_was_cut_off_listens_anew() -> None:
    heard = Fellows(TIMERS)
    listening(heard, since=0, until=2)
    assert heard.may_exist(60, NOBODY)
    listening(heard, since=60, until=60.5)
    assert heard.may_exist(60.5, G1)
    listening(heard, since=60.6, until=61.5)
    assert not heard.may_exist(61.5, G1)


def test_a_gateway_that_fell_silent_may_come_back_for_a_while() -> None:
    heard = Fellows(TIMERS)
    heard.on_heartbeat(0, G1)
    listening(heard, since=0, until=40)
    assert heard.may_exist(40, G0)
    assert not heard.may_exist(40, G1)
    heard.on_heartbeat(40, G1)
    listening(heard, since=40, until=69)
    assert heard.may_exist(69, G1)


def test_names_are_bounded_and_the_latest_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fellows, "MAX_FELLOWS", 2)
    heard = Fellows(TIMERS)
    heard.on_heartbeat(0, G1)
    listening(heard, since=0, until=2)
    for name in ("a", "b"):
        heard.on_heartbeat(2, gateway_inbox(name))
    assert not heard.may_exist(2, G1)
    assert heard.may_exist(2, gateway_inbox("b"))
