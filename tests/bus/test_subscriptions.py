"""How many subscriptions a process has, seen from a broker's side of its link: no session ever adds one."""

from __future__ import annotations

import zmq

from e2e.local_chain import free_port
from pipespec.bus.link import BusLink
from pipespec.bus.sockets import Context
from pipespec.ops.pipeline import BrokerSettings
from pipespec.protocol.ids import FLEET, gateway_inbox


def test_a_process_subscribes_to_its_inbox_and_to_the_fleet_and_to_nothing_else() -> None:
    context: Context = zmq.Context()
    broker = BrokerSettings(publish_port=free_port(), subscribe_port=free_port())
    out = context.socket(zmq.XPUB)
    out.set(zmq.RCVTIMEO, 20_000)
    out.bind(f"tcp://127.0.0.1:{broker.subscribe_port}")
    link = BusLink([broker], inbox=gateway_inbox("g0"), topics=[FLEET])
    try:
        link.start(timeout_s=0)
        assert {out.recv(), out.recv()} == {b"\x01" + gateway_inbox("g0"), b"\x01" + FLEET}
        assert not out.poll(300)
    finally:
        link.close()
        context.destroy(linger=0)
