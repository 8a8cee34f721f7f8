"""A15 without a machine that could run it: what 10,000 sessions cost the bus does not grow with subscriptions or messages.

The gateway's core holds 10,000 sessions of a fleet that speaks by hand; the subscriptions are those of real links.
"""

from __future__ import annotations

from collections import Counter

import zmq

from e2e.local_chain import free_port
from pipespec.bus.link import BusLink
from pipespec.ops.pipeline import BrokerSettings
from pipespec.protocol.codec import MAX_MESSAGE_BYTES, encode
from pipespec.protocol.fleet import Fleet
from pipespec.protocol.gateway_replica import MAX_STATE_ENTRIES, GatewayReplica
from pipespec.protocol.ids import (
    FLEET,
    Incarnation,
    Rank,
    SessionId,
    TokenId,
    gateway_inbox,
    stage_inbox,
)
from pipespec.protocol.messages import Envelope, Heartbeat, Segment, SegmentKind, StageCounters, State
from pipespec.protocol.sampling import Sampling
from pipespec.protocol.timers import Timers

NUM_SESSIONS = 10_000
NUM_REPLICAS = 4
"""Of each of two stages."""
TIMERS = Timers(heartbeat_s=0.1, dead_s=0.5, stall_s=1.0, lease_s=10.0, sync_s=0.025)


def _beat(rank: int, replica: str) -> Heartbeat:
    return Heartbeat(
        rank=Rank(rank),
        replica=replica,
        num_stages=2,
        model="m",
        weights=b"w" * 16,
        tokenizer=b"t" * 16,
        vocab_size=100,
        context_len=1000,
        ready=True,
        draining=False,
        turn=1,
        sessions=0,
        max_sessions=NUM_SESSIONS,
        counters=StageCounters(),
    )


def test_states_of_ten_thousand_sessions_go_out_in_few_messages_that_the_bus_takes() -> None:
    core = GatewayReplica(Fleet(num_stages=2, tokenizer=b"t" * 16, timers=TIMERS), TIMERS)
    for rank in range(2):
        for number in range(NUM_REPLICAS):
            inbox = stage_inbox(Rank(rank), f"r{number}")
            beat = _beat(rank, f"r{number}")
            core.on_envelope(0.0, Envelope(inbox, Incarnation(1), 1, beat))
    sampling = Sampling(max_tokens=100)
    for number in range(NUM_SESSIONS):
        prompt = (TokenId(number % 100), TokenId(5))
        core.open(0.0, SessionId(number.to_bytes(16, "big")), prompt=prompt, sampling=sampling)
    core.outbox.take()
    for session in list(core.sessions.values()):
        entry = session.state_entry()
        said = Segment(
            SegmentKind.VERIFICATION,
            session.session,
            session.epoch,
            entry.committed,
            entry.digest,
            (TokenId(7),) * 20,
        )
        session.on_segment(0.05, said)
    core.on_timer(0.2)
    sent = core.outbox.take()
    states = Counter(topic for topic, message in sent if isinstance(message, State))
    per_replica = -(-NUM_SESSIONS // NUM_REPLICAS)
    assert len(sent) == sum(states.values())
    assert len(states) == 2 * NUM_REPLICAS
    for count in states.values():
        assert count <= -(-1.25 * per_replica // MAX_STATE_ENTRIES)
    envelopes = (Envelope(gateway_inbox("g0"), Incarnation(1), 1, message) for _, message in sent)
    assert max(len(encode(envelope)) for envelope in envelopes) < MAX_MESSAGE_BYTES / 10
    named = {entry.session for _, message in sent if isinstance(message, State) for entry in message.entries}
    assert len(named) == NUM_SESSIONS


def test_a_process_subscribes_to_its_inbox_and_to_the_fleet_whatever_it_serves() -> None:
    context = zmq.Context()
    broker = BrokerSettings(publish_port=free_port(), subscribe_port=free_port())
    out = context.socket(zmq.XPUB)
    out.set(zmq.RCVTIMEO, 20_000)
    out.bind(f"tcp://127.0.0.1:{broker.subscribe_port}")
    link = BusLink([broker], inbox=gateway_inbox("g0"), topics=[FLEET])
    try:
        link.start(timeout_s=0)
        subscriptions = {out.recv(), out.recv()}
        out.set(zmq.RCVTIMEO, 300)
        assert subscriptions == {b"\x01" + gateway_inbox("g0"), b"\x01" + FLEET}
        assert not out.poll(300)
    finally:
        link.close()
        context.destroy(linger=0)
