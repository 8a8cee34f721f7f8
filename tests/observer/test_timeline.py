"""From messages to a trace: what leaves a mark, where, and once."""

from __future__ import annotations

from typing import Any

from pipespec.observer.observer import Heard
from pipespec.observer.timeline import timeline_of
from pipespec.protocol.ids import (
    Digest,
    Epoch,
    Incarnation,
    Position,
    Rank,
    SessionId,
    Topic,
    gateway_inbox,
    stage_inbox,
)
from pipespec.protocol.messages import (
    Envelope,
    Message,
    Segment,
    SegmentKind,
    SessionState,
    State,
    Stepped,
    StepShare,
)
from protocol.examples import SESSION, ids

DRAFT, GATEWAY = stage_inbox(Rank(0), "r0"), gateway_inbox("g0")
OTHER = SessionId(b"o" * 16)


def heard(at_us: int, sender: Topic, message: Message) -> Heard:
    return Heard(at_us, Envelope(sender, Incarnation(1), at_us, message))


def step(*sessions: SessionId) -> Stepped:
    shares = (StepShare(one, Position(3), fed=5, candidates=4, accepted=2, said=3) for one in sessions)
    return Stepped(Rank(0), "r0", began_us=1000, took_us=250, shares=tuple(shares))


def segment(kind: SegmentKind, *tokens: int, base: int = 0) -> Segment:
    return Segment(kind, SESSION, Epoch(0), Position(base), Digest(bytes(16)), ids(*tokens))


def events(timeline: Any, phase: str) -> list[dict[str, Any]]:
    return [event for event in timeline.document()["traceEvents"] if event["ph"] == phase]


def test_a_step_is_a_bar_on_its_replicas_track_with_what_its_sessions_did() -> None:
    timeline = timeline_of([heard(1300, DRAFT, step(SESSION, OTHER))])
    (bar,) = events(timeline, "X")
    assert (bar["ts"], bar["dur"], bar["name"]) == (1000, 250, "step of 10: 4 of 8 right")
    assert bar["args"]["sessions in the step"] == 2
    names = {
        event["tid"]: event["args"]["name"] for event in events(timeline, "M") if "name" in event["args"]
    }
    assert names[bar["tid"]] == "stage 0 r0"


def test_a_timeline_of_one_session_leaves_out_the_others() -> None:
    messages = [heard(1, DRAFT, step(OTHER)), heard(2, DRAFT, step(SESSION, OTHER))]
    timeline = timeline_of(messages, SESSION)
    (bar,) = events(timeline, "X")
    assert [share["session"] for share in bar["args"]["shares"]] == [SESSION.hex()]
    assert bar["args"]["tokens in the step"] == 10  # the time was spent on all of them
    assert timeline.sessions == {SESSION}


def test_a_publication_is_marked_once_however_many_readers_and_repetitions_it_has() -> None:
    first = segment(SegmentKind.SPECULATION, 1, 2)
    longer = segment(SegmentKind.SPECULATION, 1, 2, 3)
    timeline = timeline_of(
        heard(at, DRAFT, message) for at, message in enumerate([first, first, longer, first])
    )
    marks = [(event["args"]["from"], event["args"]["to"]) for event in events(timeline, "i")]
    assert marks == [(0, 2), (0, 3), (0, 2)]


def test_rollbacks_are_counted_and_marked() -> None:
    timeline = timeline_of([heard(7, DRAFT, segment(SegmentKind.ROLLBACK, 9, base=4))])
    assert timeline.num_rollbacks == 1
    assert [event["name"] for event in events(timeline, "i")] == ["rollback"]


def test_commits_are_a_curve_that_only_grows() -> None:
    lengths = (2, 5, 5, 3, 6)
    states = [State((SessionState(SESSION, Epoch(0), Position(n), Digest(bytes(16)), ()),)) for n in lengths]
    timeline = timeline_of(heard(at, GATEWAY, state) for at, state in enumerate(states))
    assert [event["args"]["tokens"] for event in events(timeline, "C")] == [2, 5, 6]
