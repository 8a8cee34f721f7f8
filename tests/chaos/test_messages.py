"""A bus that loses, doubles, delays and cuts messages, with the timers that the bounds were made for."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from chaos import faults_of_messages as faults
from chaos import fleets
from chaos.fire import AFTER_HEAL, Row, repeat_emulated
from chaos.fleet import Fleet, started
from chaos.report import Report

pytestmark = [pytest.mark.chaos, pytest.mark.e2e, pytest.mark.timeout(900)]
ROWS = (
    Row("A10/1", "1 % of messages lost", 0.3, faults.unreliable(drop=0.01), num_tokens=220),
    Row("A10/10", "10 % of messages lost", 0.7, faults.unreliable(drop=0.10), num_tokens=220),
    Row("A10/30", "30 % of messages lost", 2.0, faults.unreliable(drop=0.30), num_tokens=220),
    Row(
        "A11",
        "30 % doubled, 30 % late by up to 600 ms",
        None,
        faults.unreliable(double=0.3, delay=0.3, delay_ms=600),
    ),
    Row(
        "A33",
        "links stop one by one, heal in another order",
        3.0,
        faults.links_stop_one_by_one,
        what=AFTER_HEAL,
    ),
    Row("A35", "all but one target come and go", None, faults.all_but_one_target_flap),
)


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """With the broker of the tests."""
    fleet = fleets.messages(tmp_path_factory.mktemp("messages"))
    with started(fleet, except_for=fleets.spare(fleet)):
        yield fleet


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.row)
async def test_no_token_changes(row: Row, fleet: Fleet, report: Report, repetitions: int) -> None:
    report.add(await repeat_emulated(row, fleet, repetitions=repetitions))
