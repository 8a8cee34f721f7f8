"""Through a real broker: single messages, and many."""

from __future__ import annotations

from pipespec.bench.flood import flood
from pipespec.bench.hops import measure_hops
from pipespec.bench.scale import emulated_chain
from pipespec.cli.local.temporary import temporary_pipeline


def test_every_message_comes_back_and_takes_some_time() -> None:
    with temporary_pipeline(emulated_chain(replicas=1, max_sessions=1)) as running:
        hops = measure_hops(running.brokers, count=20)
    assert len(hops) == 20
    assert all(0 < seconds < 5 for seconds in hops)


def test_a_flood_comes_back_whole() -> None:
    with temporary_pipeline(emulated_chain(replicas=1, max_sessions=1)) as running:
        assert flood(running.brokers, messages=5000).messages_per_s > 0
