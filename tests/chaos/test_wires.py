"""Packets lost for good between one process and the broker, in network namespaces; skipped where these cannot be made."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from chaos import fleets
from chaos.faults_of_wires import cut
from chaos.fire import AFTER_HEAL, EmulatedOracle, Row, repeat
from chaos.fleet import Fleet, started
from chaos.hub import Hub, Way, why_not, wired
from chaos.report import Report

pytestmark = [pytest.mark.chaos, pytest.mark.e2e, pytest.mark.timeout(900)]
TARGET, GATEWAY, P_S = "stage-1-r0", "g0", 0.1


def rows(hub: Hub) -> dict[str, Row]:
    """All rows that need wires."""
    both = (Way.FROM, Way.TO)
    found = (
        Row("A6", "one way: nothing comes from a target", 1 + P_S, cut(hub, TARGET, Way.FROM)),
        Row("A7", "one way: nothing reaches a target", 2 + P_S, cut(hub, TARGET, Way.TO)),
        Row("A8/2", "gateway cut off for 2 s", 1.5, cut(hub, GATEWAY, *both, for_s=2), what=AFTER_HEAL),
        Row("A8/8", "gateway cut off for 8 s", 1.5, cut(hub, GATEWAY, *both, for_s=8), what=AFTER_HEAL),
        Row("A9", "half-open: a target cut off, no reset", 1 + P_S, cut(hub, TARGET, *both)),
    )
    return {row.row: row for row in found}


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Fleet, Hub]]:
    """A fleet and its wires."""
    if reason := why_not():
        pytest.skip(reason)
    fleet = fleets.wires(tmp_path_factory.mktemp("wires"))
    with wired(fleet) as hub, started(fleet):
        yield fleet, hub


@pytest.mark.parametrize("name", ["A6", "A7", "A8/2", "A8/8", "A9"])
async def test_no_token_changes(name: str, site: tuple[Fleet, Hub], report: Report, repetitions: int) -> None:
    fleet, hub = site
    row = rows(hub)[name]

    def prompts(turn: int) -> list[str]:
        return [f"{row.row}, turn {turn}, session {index}" for index in range(row.num_streams)]

    oracle = EmulatedOracle(fleet)
    report.add(await repeat(row, fleet, oracle, kind="wires", repetitions=repetitions, prompts=prompts))
