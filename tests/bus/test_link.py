"""The link to the bus over real sockets: joining is proved, two brokers work, damage is counted, nothing blocks."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator

import pytest
import zmq

from bus.brokers import forward, free_port, settings
from pipespec.broker.forwarder import Forwarder
from pipespec.bus.address import publish_endpoints, subscribe_endpoints
from pipespec.bus.link import BusLink
from pipespec.ops.errors import InvariantBroken, SettingsError
from pipespec.ops.pipeline import BrokerSettings
from pipespec.protocol.codec import encode
from pipespec.protocol.ids import FLEET, Epoch, Incarnation, Rank, gateway_inbox, stage_inbox
from pipespec.protocol.messages import Close, EndReason, Envelope, Heartbeat
from pipespec.protocol.seal import seal
from protocol.examples import MESSAGES, SESSION

STAGE, GATEWAY = stage_inbox(Rank(0), "r1"), gateway_inbox("g0")


def close_of(epoch: int) -> Close:
    return Close(SESSION, Epoch(epoch), EndReason.STOP)


def received(link: BusLink, wanted: Callable[[Envelope], bool], count: int) -> list[Envelope]:
    found: list[Envelope] = []
    deadline = time.monotonic() + 10
    while len(found) < count and time.monotonic() < deadline:
        found += [envelope for envelope in link.receive(0.1) if wanted(envelope)]
    return found


@pytest.fixture
def brokers() -> Iterator[list[BrokerSettings]]:
    chosen = [settings(), settings()]
    forwarders = [forward(broker) for broker in chosen]
    yield chosen
    for forwarder in forwarders:
        forwarder.stop()


def test_what_is_published_after_joining_arrives_in_order(brokers: list[BrokerSettings]) -> None:
    stage, gateway = BusLink(brokers[:1], inbox=STAGE), BusLink(brokers[:1], inbox=GATEWAY)
    try:
        assert stage.start()
        assert gateway.start()
        gateway.publish([(STAGE, close_of(epoch)) for epoch in range(200)])
        envelopes = received(stage, lambda _: True, 200)
        assert [envelope.message for envelope in envelopes] == [close_of(epoch) for epoch in range(200)]
        assert {envelope.sender for envelope in envelopes} == {GATEWAY}
        assert {envelope.incarnation for envelope in envelopes} == {gateway.incarnation}
    finally:
        stage.close()
        gateway.close()


def test_inboxes_are_exact_although_zeromq_matches_prefixes(brokers: list[BrokerSettings]) -> None:
    one, ten = BusLink(brokers[:1], inbox=STAGE), BusLink(brokers[:1], inbox=stage_inbox(Rank(0), "r10"))
    try:
        assert one.start()
        assert ten.start()
        ten.publish([(ten.inbox, close_of(10)), (STAGE, close_of(1))])
        assert [e.message for e in received(one, lambda _: True, 1)] == [close_of(1)]
    finally:
        one.close()
        ten.close()


def test_two_brokers_deliver_twice_with_one_number_and_one_may_be_missing(
    brokers: list[BrokerSettings],
) -> None:
    missing = settings()
    stage = BusLink([*brokers, missing], inbox=STAGE)
    try:
        assert stage.start()
        stage.publish([(STAGE, close_of(1))])
        envelopes = received(stage, lambda _: True, 2)
        assert len(envelopes) == 2
        assert len({envelope.number for envelope in envelopes}) == 1
    finally:
        stage.close()


def test_without_a_broker_a_link_has_not_joined_and_joins_when_one_comes() -> None:
    broker = settings()
    link = BusLink([broker], inbox=STAGE)
    forwarder = None
    try:
        assert not link.start(timeout_s=0.2)
        assert not link.is_joined
        forwarder = forward(broker)
        deadline = time.monotonic() + 10
        while not link.is_joined and time.monotonic() < deadline:
            time.sleep(0.02)
        assert link.is_joined
    finally:
        link.close()
        if forwarder is not None:
            forwarder.stop()


def test_a_link_finds_a_broker_that_restarts_at_the_same_place() -> None:
    broker = settings()
    forwarder = forward(broker)
    link = BusLink([broker], inbox=STAGE)
    try:
        assert link.start()
        forwarder.stop()
        forwarder = forward(broker)
        found: list[Envelope] = []
        deadline = time.monotonic() + 10
        while not found and time.monotonic() < deadline:
            link.publish([(STAGE, close_of(3))])
            found = link.receive(0.1)
        assert found
    finally:
        link.close()
        forwarder.stop()


def test_heartbeats_go_to_the_fleet_while_the_process_is_busy(brokers: list[BrokerSettings]) -> None:
    beat = MESSAGES["heartbeat"][1]
    assert isinstance(beat, Heartbeat)
    stage = BusLink(brokers[:1], inbox=STAGE, heartbeat_s=0.02)
    gateway = BusLink(brokers[:1], inbox=GATEWAY, topics=[FLEET])
    try:
        assert gateway.start()
        assert stage.start(heartbeat=lambda: beat)
        beats = received(gateway, lambda envelope: isinstance(envelope.message, Heartbeat), 3)
        assert [envelope.message for envelope in beats[:3]] == [beat] * 3
    finally:
        stage.close()
        gateway.close()


WELL = encode(Envelope(GATEWAY, Incarnation(1), 1, close_of(1)))
DAMAGED = {
    "one frame": [STAGE],
    "three frames": [STAGE, seal(STAGE, WELL), b"third frame"],
    "no seal": [STAGE, WELL],
    "a flipped bit under its seal": [STAGE, bytes([WELL[0] ^ 1]) + seal(STAGE, WELL)[1:]],
    "the seal of another topic": [STAGE, seal(GATEWAY, WELL)],
    "sealed, but no message": [STAGE, seal(STAGE, b"\xc1")],
}


@pytest.mark.parametrize("frames", DAMAGED.values(), ids=DAMAGED)
def test_malformed_messages_are_counted_and_dropped(
    brokers: list[BrokerSettings], frames: list[bytes]
) -> None:
    stage = BusLink(brokers[:1], inbox=STAGE)
    context = zmq.Context()
    stranger = context.socket(zmq.PUB)
    stranger.set(zmq.LINGER, 0)
    stranger.connect(f"tcp://127.0.0.1:{brokers[0].publish_port}")
    try:
        assert stage.start()
        deadline = time.monotonic() + 10
        while stage.num_malformed < 3 and time.monotonic() < deadline:
            stranger.send_multipart(frames)
            time.sleep(0.02)
        assert stage.num_malformed >= 3
        stage.publish([(STAGE, close_of(1))])
        assert [envelope.sender for envelope in received(stage, lambda _: True, 1)] == [STAGE]
    finally:
        stranger.close()
        context.term()
        stage.close()


def test_a_full_inbox_drops_the_oldest_and_says_so(
    brokers: list[BrokerSettings], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipespec.bus.link.MAX_QUEUED", 10)
    stage = BusLink(brokers[:1], inbox=STAGE)
    try:
        assert stage.start()
        stage.publish([(STAGE, close_of(epoch)) for epoch in range(50)])
        deadline = time.monotonic() + 10
        while stage.num_overflowed < 40 and time.monotonic() < deadline:
            time.sleep(0.01)
        assert [e.message for e in stage.receive(0.0)] == [close_of(epoch) for epoch in range(40, 50)]
    finally:
        stage.close()


def test_a_closed_link_leaves_no_thread(brokers: list[BrokerSettings]) -> None:
    before = set(threading.enumerate())
    link = BusLink(brokers[:1], inbox=STAGE)
    assert link.start()
    link.close()
    assert {t for t in threading.enumerate() if t not in before and t.name == "bus-link"} == set()


def test_a_port_in_use_names_the_setting(brokers: list[BrokerSettings]) -> None:
    with pytest.raises(SettingsError, match="brokers"):
        forward(brokers[0])


def test_port_zero_is_for_up_alone() -> None:
    with pytest.raises(SettingsError, match="publish_port = 0"):
        BusLink([BrokerSettings()], inbox=STAGE)


def test_the_forwarder_counts_what_it_forwards(brokers: list[BrokerSettings]) -> None:
    broker = settings()
    forwarder = forward(broker)
    link = BusLink([broker], inbox=STAGE)
    try:
        assert link.start()
        link.publish([(STAGE, close_of(1))] * 10)
        received(link, lambda _: True, 10)
        counts = forwarder.statistics()
        assert 11 <= counts.messages_in <= sum(link.sent.values())
        assert counts.messages_out >= 11
        assert counts.bytes_in > counts.messages_in
    finally:
        link.close()
        forwarder.stop()


def test_when_the_bus_thread_fails_the_process_is_told_at_its_next_word(
    brokers: list[BrokerSettings], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise OSError("no such interface")

    monkeypatch.setattr("pipespec.bus.link.subscriber", broken)
    link = BusLink(brokers, inbox=STAGE)
    assert not link.start(timeout_s=0.5)
    with pytest.raises(InvariantBroken, match="no such interface"):
        link.publish([(STAGE, close_of(1))])
    link.close()


def test_news_is_told_once_there_is_something_to_receive(brokers: list[BrokerSettings]) -> None:
    news = threading.Event()
    link = BusLink(brokers[:1], inbox=STAGE, on_news=news.set)
    try:
        assert link.start()
        link.publish([(STAGE, close_of(1))])
        assert news.wait(10)
        assert [envelope.message for envelope in link.receive(0.0)] == [close_of(1)]
    finally:
        link.close()


def test_ipv6_brokers_work() -> None:
    if not has_ipv6():
        pytest.skip("this machine has no IPv6 loopback")
    broker = BrokerSettings(host="::1", publish_port=free_port(), subscribe_port=free_port())
    forwarder = Forwarder(
        publish_at=publish_endpoints([broker])[0], subscribe_at=subscribe_endpoints([broker])[0]
    )
    link = BusLink([broker], inbox=STAGE)
    try:
        assert link.start()
    finally:
        link.close()
        forwarder.stop()


def has_ipv6() -> bool:
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
    except OSError:
        return False
    return True
