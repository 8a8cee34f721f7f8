"""When a session takes part in a step: at once, or when enough candidates are there, but never beyond patience."""

from __future__ import annotations

from pipespec.protocol.ids import TokenId
from pipespec.protocol.pace import FreeRunning, Patient, pace_of
from pipespec.protocol.stage_session import StageSession
from protocol.sessions import hear, opened, run

PATIENT = Patient(candidates=2, wait_s=1.0)


def answered(**settings: object) -> StageSession:
    """The target's session, whose last step ended at 0."""
    session = opened(2, **settings)  # type: ignore[arg-type]
    run(session, 10)
    session.answered_s = 0.0
    return session


def test_nobody_waits_unless_told_to() -> None:
    assert isinstance(pace_of(candidates=0, wait_s=1.0), FreeRunning)
    assert FreeRunning().may_step(0.0, answered())


def test_a_step_waits_for_its_candidates_and_no_longer_than_its_patience() -> None:
    session = answered()
    assert not PATIENT.may_step(0.5, session)
    assert PATIENT.may_step(1.0, session)
    hear(session, 1, 10, 11)
    assert not PATIENT.may_step(0.5, session)
    hear(session, 1, 10, 11, 12)
    assert PATIENT.may_step(0.5, session)


def test_a_session_that_was_never_answered_does_not_wait() -> None:
    assert PATIENT.may_step(0.0, opened(2))


def test_nothing_is_waited_for_that_the_request_has_no_room_for() -> None:
    session = answered(max_tokens=2)
    assert PATIENT.may_step(0.0, session)


def test_candidates_that_end_the_text_are_all_that_can_come() -> None:
    session = answered(stop_ids=(TokenId(7),))
    hear(session, 1, 10, 7)
    assert PATIENT.may_step(0.0, session)


def test_a_session_without_drafts_waits_for_none() -> None:
    assert PATIENT.may_step(0.0, answered(route=("", "", "c")))
