"""What is wished for comes about in the cluster, if this process may, and whatever the API does."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from kubernetes.client import ApiClient

from kube.api_server import NAMESPACE, ApiServer, stateful_set
from kube.waiting import eventually
from pipespec.autoscaler.stage_scales import StageScales
from pipespec.kube.failure import Patience
from pipespec.kube.scale import Scales, ScaleTimes
from pipespec.protocol.ids import Rank

RESOURCE = "apps/v1/statefulsets"
DRAFT, TARGET = Rank(0), Rank(1)
TIMES = ScaleTimes(
    patience=Patience(connect_s=1.0, read_s=0.3), first_wait_s=0.02, longest_wait_s=0.1, budget_s=0.5
)


class Leadership:
    """Whether this process leads."""

    def __init__(self) -> None:
        self.is_ours = True


@pytest.fixture
def leadership() -> Leadership:
    return Leadership()


@pytest.fixture
def scales(client: ApiClient, api: ApiServer, leadership: Leadership) -> Iterator[StageScales]:
    for name in ("draft", "target"):
        api.store(RESOURCE, name, stateful_set(1))
    with StageScales(
        Scales(client, NAMESPACE, times=TIMES),
        ("draft", "target"),
        may_write=lambda: leadership.is_ours,
        every_s=0.05,
    ) as scales:
        eventually(lambda: len(scales.replicas) == 2)
        yield scales


def replicas(api: ApiServer) -> tuple[int, int]:
    draft, target = (int(api.stored(RESOURCE, name)["spec"]["replicas"]) for name in ("draft", "target"))
    return draft, target


def test_the_wish_of_a_leader_comes_about(scales: StageScales, api: ApiServer) -> None:
    scales.request({DRAFT: 2, TARGET: 3})
    eventually(lambda: replicas(api) == (2, 3))
    eventually(lambda: scales.replicas == {DRAFT: 2, TARGET: 3})


def test_a_stage_that_is_not_in_the_wish_is_left_alone(scales: StageScales, api: ApiServer) -> None:
    scales.request({TARGET: 3})
    eventually(lambda: replicas(api) == (1, 3))
    assert not [path for method, path in api.calls if method == "PATCH" and "draft" in path]


def test_whoever_does_not_lead_looks_on(scales: StageScales, api: ApiServer, leadership: Leadership) -> None:
    leadership.is_ours = False
    scales.request({TARGET: 3})
    api.store(RESOURCE, "target", stateful_set(5))
    eventually(lambda: scales.replicas[TARGET] == 5)
    assert api.num_calls("PATCH", "scale") == 0
    leadership.is_ours = True
    eventually(lambda: replicas(api) == (1, 3))


def test_what_somebody_else_changes_is_put_right(scales: StageScales, api: ApiServer) -> None:
    scales.request({TARGET: 3})
    eventually(lambda: replicas(api) == (1, 3))
    api.store(RESOURCE, "target", stateful_set(9))
    eventually(lambda: replicas(api) == (1, 3))


def test_a_wish_that_is_taken_back_changes_nothing_any_more(scales: StageScales, api: ApiServer) -> None:
    scales.request({TARGET: 3})
    eventually(lambda: replicas(api) == (1, 3))
    scales.request({})
    api.store(RESOURCE, "target", stateful_set(9))
    eventually(lambda: scales.replicas[TARGET] == 9)
    assert replicas(api) == (1, 9)


@pytest.mark.parametrize("answer", [403, 404, 409, 410, 429, 500, "hang", "reset"])
def test_one_stage_that_cannot_be_scaled_does_not_hold_up_the_others(
    scales: StageScales, api: ApiServer, answer: int | str
) -> None:
    fault = api.fail("PATCH", "draft/scale", answer, times=10**6)
    scales.request({DRAFT: 2, TARGET: 3})
    eventually(lambda: replicas(api) == (1, 3))
    fault.times = 0
    eventually(lambda: replicas(api) == (2, 3))
    assert sum(scales.failures.values()) > 0


def test_a_newer_wish_overtakes_one_that_fails(scales: StageScales, api: ApiServer) -> None:
    fault = api.fail("PATCH", "target/scale", 500, times=10**6)
    scales.request({TARGET: 3})
    eventually(lambda: sum(scales.failures.values()) > 0)
    scales.request({TARGET: 4})
    fault.times = 0
    eventually(lambda: replicas(api) == (1, 4))
    assert [change["spec"] for change in api.changes] == [{"replicas": 4}]
