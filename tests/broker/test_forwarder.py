"""A proxy loop that hangs: it holds up no end, and its late answers are not taken for those that follow."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import pytest
import zmq

from bus.brokers import forward, settings
from pipespec.broker import forwarder as forwarder_module
from pipespec.bus.link import BusLink
from pipespec.protocol.ids import gateway_inbox

TIMEOUT_S = 60


@pytest.fixture
def goes_on(monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.Event]:
    """The proxy loop of a forwarder made now hangs until this is set."""
    goes_on, turn = threading.Event(), zmq.proxy_steerable

    def late(*sockets: Any) -> None:
        assert goes_on.wait(TIMEOUT_S)
        turn(*sockets)

    monkeypatch.setattr(zmq, "proxy_steerable", late)
    yield goes_on
    goes_on.set()


def test_a_loop_that_hangs_does_not_hold_up_the_end(
    goes_on: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(forwarder_module, "_END_S", 0.05)
    forwarder = forward(settings())
    forwarder.stop()
    assert forwarder.is_running
    goes_on.set()  # it has been told to end
    forwarder._thread.join(TIMEOUT_S)
    assert not forwarder.is_running
    forwarder.stop()  # frees what the first call had to leave


def test_an_answer_that_comes_late_is_not_taken_for_the_next(
    goes_on: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    broker = settings()
    with monkeypatch.context() as patch:
        patch.setattr(forwarder_module, "_ANSWER_MS", 50)
        forwarder = forward(broker)
    assert not forwarder.turns
    forwarder._control.set(zmq.RCVTIMEO, TIMEOUT_S * 1000)
    goes_on.set()
    assert forwarder._control.poll(TIMEOUT_S * 1000), "the late answer, that nothing was forwarded yet"
    link = BusLink([broker], inbox=gateway_inbox("g0"))
    try:
        assert link.start(timeout_s=TIMEOUT_S)
        assert forwarder.statistics().messages_in > 0
    finally:
        link.close()
        forwarder.stop()
