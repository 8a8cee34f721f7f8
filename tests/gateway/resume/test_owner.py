"""Streams at their owner, in virtual time: who reads, what is kept, when it is gone."""

from __future__ import annotations

import pytest

from pipespec.gateway.resume.log import FRAME_OVERHEAD, STREAM_OVERHEAD
from pipespec.gateway.resume.owner import Limits, OwnedStreams
from pipespec.ops.errors import RequestError, SessionLost
from pipespec.protocol.ids import gateway_inbox
from pipespec.protocol.streams import Resume, Resumed, StreamId, StreamState

STREAM, OTHER = StreamId(b"s" * 16), StreamId(b"o" * 16)
LIMITS = Limits(grace_s=30.0, lease_s=2.0, stream_bytes=10_000, total_bytes=100_000)
ASKER = gateway_inbox("g1")


def frame(index: int, size: int = 10) -> bytes:
    return str(index).rjust(size).encode()


def filled(num_frames: int, *, limits: Limits = LIMITS, stream: StreamId = STREAM) -> OwnedStreams:
    owned = OwnedStreams(limits)
    owned.open(0.0, stream, protocol="grpc")
    for index in range(num_frames):
        owned.append(stream, frame(index))
    return owned


def taken(owned: OwnedStreams, reader: int, stream: StreamId = STREAM) -> list[int]:
    indices = []
    while (next_ := owned.take(stream, reader)) is not None:
        assert next_.content == frame(next_.index, len(next_.content))
        indices.append(next_.index)
    return indices


def code_of(caught: pytest.ExceptionInfo[RequestError]) -> str:
    return caught.value.code


def ask(index: int = 0, *, reader: int = 1, credit: int = 10_000, cancel: bool = False) -> Resume:
    return Resume(STREAM, reader, "grpc", index, credit, cancel)


def answers(owned: OwnedStreams) -> list[Resumed]:
    sends = owned.outbox.take()
    assert {topic for topic, _ in sends} <= {ASKER}
    return [message for _, message in sends if isinstance(message, Resumed)]


def test_a_reader_gets_all_from_its_index_on_and_then_the_end() -> None:
    owned = filled(5)
    owned.attach(STREAM, protocol="grpc", reader=1, index=2)
    assert taken(owned, 1) == [2, 3, 4]
    assert not owned.is_complete(STREAM)
    owned.end(STREAM)
    assert owned.is_complete(STREAM)
    assert owned.woken == {1}


def test_a_failed_stream_says_what_it_has_and_then_why() -> None:
    owned = filled(2)
    owned.end(STREAM, error=SessionLost("gone", code="session_lost"))
    owned.attach(STREAM, protocol="grpc", reader=1, index=0)
    assert [owned.take(STREAM, 1) is not None for _ in range(2)] == [True, True]
    with pytest.raises(SessionLost):
        owned.take(STREAM, 1)


def test_the_newest_reader_wins_and_the_older_is_told() -> None:
    owned = filled(3)
    owned.attach(STREAM, protocol="grpc", reader=1, index=0)
    owned.attach(STREAM, protocol="grpc", reader=2, index=1)
    assert owned.woken == {1, 2}
    with pytest.raises(RequestError) as caught:
        owned.take(STREAM, 1)
    assert code_of(caught) == "resumed_elsewhere"
    owned.detach(1.0, STREAM, 1)  # its leaving does not begin the grace of the newer one
    owned.on_timer(100.0)
    assert taken(owned, 2) == [1, 2]


@pytest.mark.parametrize(
    ("protocol", "index", "code"), [("zmq", 0, "resume_expired"), ("grpc", 4, "invalid_value")]
)
def test_what_is_not_there_cannot_be_read(protocol: str, index: int, code: str) -> None:
    owned = filled(3)
    with pytest.raises(RequestError) as caught:
        owned.attach(STREAM, protocol=protocol, reader=1, index=index)
    assert code_of(caught) == code
    with pytest.raises(RequestError) as caught:
        owned.attach(OTHER, protocol="grpc", reader=1, index=0)
    assert code_of(caught) == "resume_expired"


def test_a_stream_is_dropped_and_stopped_after_the_grace_without_a_reader() -> None:
    owned = filled(3)
    owned.attach(STREAM, protocol="grpc", reader=1, index=0)
    owned.on_timer(1000.0)
    owned.detach(1000.0, STREAM, 1)
    owned.on_timer(1029.9)
    assert (owned.num_streams, owned.stopped) == (1, [])
    owned.on_timer(1030.0)
    assert (owned.num_streams, owned.size, owned.stopped) == (0, 0, [STREAM])
    with pytest.raises(RequestError, match="cannot be resumed"):
        owned.append(STREAM, b"late")


def test_a_stream_that_has_ended_is_dropped_without_stopping_anything() -> None:
    owned = filled(3)
    owned.end(STREAM)
    owned.on_timer(30.0)
    assert (owned.num_streams, owned.size, owned.stopped) == (0, 0, [])


def test_cancelling_stops_the_generation_frees_the_frames_and_is_remembered() -> None:
    owned = filled(50)
    owned.attach(STREAM, protocol="grpc", reader=1, index=10)
    for _ in range(2):
        owned.cancel(STREAM, protocol="grpc")
    assert (owned.stopped, owned.size) == ([STREAM], STREAM_OVERHEAD)
    with pytest.raises(RequestError) as caught:
        owned.take(STREAM, 1)
    assert code_of(caught) == "cancelled"
    with pytest.raises(RequestError) as caught:
        owned.check(STREAM, protocol="grpc", index=3)
    assert code_of(caught) == "cancelled"


def test_what_was_delivered_goes_first_and_is_then_too_far_back() -> None:
    room = STREAM_OVERHEAD + 10 * (10 + FRAME_OVERHEAD)
    owned = filled(10, limits=Limits(30.0, 2.0, room, 10 * room))
    owned.attach(STREAM, protocol="grpc", reader=1, index=0)
    assert taken(owned, 1) == list(range(10))
    owned.append(STREAM, frame(10))
    assert owned.size == room
    owned.check(STREAM, protocol="grpc", index=1)
    with pytest.raises(RequestError) as caught:
        owned.check(STREAM, protocol="grpc", index=0)
    assert code_of(caught) == "resume_expired"


def test_what_one_reader_had_is_kept_for_the_next_one_that_asks_for_it_again() -> None:
    room = STREAM_OVERHEAD + 10 * (10 + FRAME_OVERHEAD)
    owned = filled(9, limits=Limits(30.0, 2.0, room, 10 * room))
    owned.attach(STREAM, protocol="grpc", reader=1, index=0)
    assert taken(owned, 1) == list(range(9))
    owned.attach(STREAM, protocol="grpc", reader=2, index=4)
    for index in range(9, 14):
        owned.append(STREAM, frame(index))
    assert taken(owned, 2) == list(range(4, 14))


def test_a_client_that_is_too_far_behind_gets_what_is_kept_and_then_the_reason() -> None:
    room = STREAM_OVERHEAD + 10 * (10 + FRAME_OVERHEAD)
    owned = filled(10, limits=Limits(30.0, 2.0, room, 10 * room))
    with pytest.raises(SessionLost):
        owned.append(STREAM, frame(10))
    assert owned.size == room
    owned.attach(STREAM, protocol="grpc", reader=1, index=0)
    assert [owned.take(STREAM, 1) is not None for _ in range(10)] == [True] * 10
    with pytest.raises(RequestError) as caught:
        owned.take(STREAM, 1)
    assert code_of(caught) == "session_buffer_full"


def test_all_streams_together_are_bounded_and_ended_ones_without_a_reader_go_first() -> None:
    limits = Limits(30.0, 2.0, 10_000, total_bytes=3 * STREAM_OVERHEAD + 500)
    owned = OwnedStreams(limits)
    ended, alone, read = (StreamId(bytes([number]) * 16) for number in range(3))
    for now, stream in enumerate((alone, ended, read)):
        owned.open(float(now), stream, protocol="grpc")
    owned.end(ended)
    owned.attach(read, protocol="grpc", reader=1, index=0)
    while owned.num_streams == 3:
        owned.append(read, frame(0))
    assert owned.stopped == []
    owned.check(alone, protocol="grpc", index=0)
    while owned.num_streams == 2:
        owned.append(read, frame(0))
    assert owned.stopped == [alone]
    assert owned.size <= limits.total_bytes


def test_room_is_made_for_many_frames_at_once_of_those_that_are_alone_for_longest() -> None:
    limits = Limits(30.0, 2.0, 10_000, total_bytes=100 * STREAM_OVERHEAD)
    owned = OwnedStreams(limits)
    streams = [StreamId(bytes([number]) * 16) for number in range(101)]
    for now, stream in enumerate(streams):
        owned.open(float(now), stream, protocol="grpc")
    assert owned.stopped == streams[:11]
    assert owned.size == limits.total_bytes * 9 // 10
    for index in range(100):
        owned.append(streams[-1], frame(index))
    assert len(owned.stopped) == 11


def test_a_frame_larger_than_a_message_ends_the_stream() -> None:
    owned = filled(0, limits=Limits(30.0, 2.0, 2**30, 2**30))
    with pytest.raises(SessionLost):
        owned.append(STREAM, bytes(256 * 1024 + 1))


# Other gateways


def test_every_ask_is_answered_with_what_is_there_or_with_nothing() -> None:
    owned = filled(3)
    owned.on_resume(0.0, ASKER, ask(1))
    (answer,) = answers(owned)
    assert (answer.start, answer.frames, answer.state) == (1, (frame(1), frame(2)), StreamState.RUNNING)
    owned.on_resume(0.1, ASKER, ask(3))
    (answer,) = answers(owned)
    assert (answer.start, answer.frames, answer.state) == (3, (), StreamState.RUNNING)


def test_news_is_pushed_to_who_asked_once_and_the_end_with_it() -> None:
    owned = filled(0)
    owned.on_resume(0.0, ASKER, ask())
    answers(owned)
    owned.append(STREAM, frame(0))
    assert [answer.frames for answer in answers(owned)] == [(frame(0),)]
    owned.end(STREAM)
    assert [answer.state for answer in answers(owned)] == [StreamState.COMPLETE]
    owned.on_timer(0.1)
    assert answers(owned) == []


def test_no_more_is_sent_than_was_allowed() -> None:
    owned = filled(10)
    owned.on_resume(0.0, ASKER, ask(credit=25))
    assert [len(answer.frames) for answer in answers(owned)] == [2, 1]
    owned.append(STREAM, frame(10))
    assert answers(owned) == []
    owned.on_resume(0.1, ASKER, ask(3, credit=0))
    assert [answer.frames for answer in answers(owned)] == [()]


def test_no_ask_makes_the_owner_send_more_than_a_mebibyte() -> None:
    owned = filled(0, limits=Limits(30.0, 2.0, 2**30, 2**30))
    for _ in range(30):
        owned.append(STREAM, bytes(100_000))
    owned.on_resume(0.0, ASKER, ask(credit=2**32 - 1))
    assert sum(len(frame) for answer in answers(owned) for frame in answer.frames) <= 2**20 + 100_000


def test_an_ask_says_again_what_was_lost_and_a_late_one_changes_nothing() -> None:
    owned = filled(4)
    owned.on_resume(0.0, ASKER, ask(0))
    owned.on_resume(0.1, ASKER, ask(2))
    assert [(answer.start, len(answer.frames)) for answer in answers(owned)] == [(0, 4), (2, 2)]
    owned.on_resume(0.2, ASKER, ask(1))
    assert answers(owned) == []


def test_a_silent_gateway_reads_no_more_and_may_come_back() -> None:
    owned = filled(1)
    owned.on_resume(0.0, ASKER, ask())
    owned.on_timer(2.1)
    owned.append(STREAM, frame(1))
    owned.on_resume(3.0, ASKER, ask(1))
    assert [answer.start for answer in answers(owned)] == [0, 1]
    owned.on_timer(5.1)
    owned.on_timer(35.0)
    assert owned.num_streams == 1
    owned.on_timer(35.2)
    assert owned.num_streams == 0


def test_between_gateways_too_the_newest_reader_wins_for_good() -> None:
    owned = filled(1)
    owned.on_resume(0.0, ASKER, ask(reader=1))
    answers(owned)
    owned.on_resume(0.1, ASKER, ask(reader=2))
    told = [(answer.reader, answer.failure.code) for answer in answers(owned)]
    assert told == [(1, "resumed_elsewhere"), (2, "")]
    owned.on_timer(10.0)  # also after the newer one has fallen silent
    owned.on_resume(10.0, ASKER, ask(reader=1))
    assert [answer.failure.code for answer in answers(owned)] == ["resumed_elsewhere"]


def test_an_unknown_stream_is_refused_over_the_bus() -> None:
    owned = OwnedStreams(LIMITS)
    owned.on_resume(0.0, ASKER, ask())
    assert [answer.failure.code for answer in answers(owned)] == ["resume_expired"]


def test_a_gateway_that_reads_a_cancelled_stream_learns_it_wherever_it_is() -> None:
    owned = filled(9)
    owned.on_resume(0.0, ASKER, ask(0, credit=15))
    owned.cancel(STREAM, protocol="grpc")
    answers(owned)
    for index in (1, 9):
        owned.on_resume(0.1, ASKER, ask(index))
        assert [answer.failure.code for answer in answers(owned)] == ["cancelled"]


def test_cancelling_over_the_bus_may_be_said_twice() -> None:
    owned = filled(3)
    for _ in range(2):
        owned.on_resume(0.0, ASKER, ask(cancel=True))
    assert [answer.failure.code for answer in answers(owned)] == ["cancelled"] * 2
    assert owned.stopped == [STREAM]
