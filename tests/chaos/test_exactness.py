"""Part of the ordinary suite: faults of every kind once, no figures. The broker, the hung thread and the skew are programs of the tests.

Timers are generous: a busy machine must not look like a fault. What is measured is under ``make chaos``.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from chaos import faults, faults_of_messages, fleets
from chaos.fire import EmulatedOracle, Fault, Row, shoot
from chaos.fleet import Fleet, started
from chaos.skew import is_refused

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(240)]
PATIENT = {
    "heartbeat_ms": 100,
    "dead_ms": 1500,
    "stall_ms": 2500,
    "hung_ms": 2000,
    "prefill_ms_per_token": 1,
    "lease_ms": 3000,
}
FAULTS: dict[str, tuple[Fault, int]] = {
    "all drafts killed": (faults.all_but_the_target_killed, 80),
    "a target frozen, then stale results": (faults.target_frozen, 180),
    "a target hung": (faults.target_hung, 100),
    "30 % lost, 30 % doubled, 30 % late": (
        faults_of_messages.unreliable(drop=0.3, double=0.3, delay=0.3, delay_ms=600),
        60,
    ),
    "nothing comes from a target": (faults_of_messages.deaf(*faults_of_messages.FROM_TARGET), 60),
    "nothing reaches a target": (faults_of_messages.deaf(*faults_of_messages.TO_TARGET), 60),
    "the only broker restarted": (faults.all_brokers_restarted, 100),
}


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """Two replicas of each stage, two gateways, one broker."""
    fleet = fleets.messages(tmp_path_factory.mktemp("exactness"), timers=PATIENT)
    with started(fleet, except_for=fleets.spare(fleet)):
        yield fleet


async def _survive(fleet: Fleet, name: str, fault: Fault, num_tokens: int) -> None:
    row = Row("", name, None, fault, num_tokens=num_tokens)
    prompts = [f"{name}, {index}" for index in range(4)]
    await shoot(row, fleet, EmulatedOracle(fleet), prompts=prompts)


@pytest.mark.parametrize("name", FAULTS)
async def test_a_fault_changes_no_token_and_ends_no_stream(name: str, fleet: Fleet) -> None:
    fault, num_tokens = FAULTS[name]
    await _survive(fleet, name, fault, num_tokens)


async def test_streams_of_a_killed_gateway_never_look_complete_and_its_sessions_end(fleet: Fleet) -> None:
    await _survive(fleet, "a gateway killed", faults.gateway_killed, 320)


async def test_replicas_of_another_vocabulary_or_of_other_weights_get_no_work(fleet: Fleet) -> None:
    newcomers = [fleet.stage(-1, replica) for replica in (fleets.SKEWED, fleets.OTHER_WEIGHTS)]
    for newcomer in newcomers:
        newcomer.start()
    for replica, newcomer in zip((fleets.SKEWED, fleets.OTHER_WEIGHTS), newcomers, strict=True):
        await is_refused(fleet, replica)
        assert newcomer.metrics().get('pipespec_bus_received_messages_total{kind="open"}', 0.0) == 0
        newcomer.kill()
