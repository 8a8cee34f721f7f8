"""The sweep against real services: the oracle decides, and costs are told by role."""

from __future__ import annotations

import pytest

from pipespec.bench.paper import check_texts
from pipespec.bench.scale import Cell, emulated_chain, measure_gateway, run_scale
from pipespec.cli.local.temporary import temporary_pipeline
from pipespec.ops.errors import InvariantBroken
from pipespec.planner.arrivals import Arrivals, LoadResult


def test_a_cell_is_measured_through_the_real_services() -> None:
    (row,) = run_scale([Cell(replicas=2, sessions=4, tokens=12)], temporary_pipeline)
    assert row.tokens_per_s > 0
    assert row.messages_per_s > 0
    assert all(row.cpu_us_per_token[role] >= 0 for role in ("gateway", "broker", "stage", "client"))
    assert row.cores_busy > 0


def test_tokens_that_are_not_the_targets_own_end_the_benchmark() -> None:
    wrong = LoadResult((Arrivals((1, 2, 3), (0.1, 0.2, 0.3)),), total_s=0.3)
    with pytest.raises(InvariantBroken):
        check_texts(emulated_chain(replicas=1, max_sessions=1), [[5, 6]], wrong)


def test_one_gateway_is_measured_with_tokens_that_come_in_bursts() -> None:
    row = measure_gateway(temporary_pipeline, sessions=4, tokens=48)
    assert row.tokens_per_s > 0
    assert row.cpu_us_per_token["gateway"] >= 0
