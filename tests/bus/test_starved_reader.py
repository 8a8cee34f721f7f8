"""A reader that gets no processor time for a while goes on afterwards; libzmq would abort its process (decision 0008)."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from bus.brokers import forward, settings
from bus.starved_reader import MESSAGES

PROGRAM = Path(__file__).with_name("starved_reader.py")


@pytest.mark.timeout(60)
def test_a_starved_reader_survives_a_flood() -> None:
    broker = settings()
    forwarder = forward(broker)
    ports = [f"tcp://127.0.0.1:{port}" for port in (broker.publish_port, broker.subscribe_port)]
    try:
        ended = subprocess.run(
            [sys.executable, PROGRAM, *ports], capture_output=True, text=True, timeout=50, check=False
        )
    finally:
        forwarder.stop()
    assert ended.returncode == 0, ended.stderr
    assert int(ended.stdout) > MESSAGES
