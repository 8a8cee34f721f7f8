"""Who is banned for malformed messages, and for how long."""

from __future__ import annotations

from pipespec.gateway.zmq.offenders import MAX_OFFENCES, WINDOW_S, Offenders

A, B = b"a", b"b"


def test_ten_offences_within_the_window_ban_for_as_long() -> None:
    offenders = Offenders()
    assert [offenders.offend(A, now=second / 10) for second in range(MAX_OFFENCES)] == [False] * 9 + [True]
    banned_at = (MAX_OFFENCES - 1) / 10
    assert offenders.is_banned(A, now=banned_at + WINDOW_S - 0.01)
    assert not offenders.is_banned(A, now=banned_at + WINDOW_S)
    assert not offenders.offend(A, now=banned_at + WINDOW_S)  # it begins anew


def test_rare_offences_and_those_of_others_do_not_count() -> None:
    offenders = Offenders()
    assert not any(offenders.offend(A, now=2.0 * index) for index in range(100))
    assert not any(offenders.offend(B, now=0.0) for _ in range(MAX_OFFENCES - 1))
    assert not offenders.is_banned(A, now=200.0)
    assert not offenders.is_banned(B, now=0.0)


def test_what_is_remembered_is_bounded() -> None:
    offenders = Offenders()
    for index in range(10_000):
        for _ in range(MAX_OFFENCES):
            offenders.offend(str(index).encode(), now=0.0)
    assert len(offenders._banned_until) + len(offenders._offences) < 2100
