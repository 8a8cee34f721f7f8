"""Scales are read and set whatever the API server does, and never blindly."""

from __future__ import annotations

import pytest
from kubernetes.client import ApiClient

from kube.api_server import NAMESPACE, ApiServer, stateful_set
from pipespec.kube.failure import ApiFailure, Patience
from pipespec.kube.scale import Scales, ScaleTimes

RESOURCE = "apps/v1/statefulsets"
PATIENCE = Patience(connect_s=1.0, read_s=0.3)


@pytest.fixture
def slept() -> list[float]:
    """What was waited for, without waiting."""
    return []


@pytest.fixture
def scales(client: ApiClient, api: ApiServer, slept: list[float]) -> Scales:
    api.store(RESOURCE, "web", stateful_set(1))
    return Scales(client, NAMESPACE, times=ScaleTimes(patience=PATIENCE, budget_s=60.0), sleep=slept.append)


def replicas(api: ApiServer) -> int:
    return int(api.stored(RESOURCE, "web")["spec"]["replicas"])


def test_a_scale_that_differs_is_patched(scales: Scales, api: ApiServer) -> None:
    assert scales.set("web", 3)
    assert replicas(api) == 3
    assert scales.read("web").replicas == 3


def test_a_scale_that_is_right_is_left_alone(scales: Scales, api: ApiServer) -> None:
    assert not scales.set("web", 1)
    assert api.num_calls("PATCH", "web") == 0


def test_a_workload_may_be_scaled_to_none(scales: Scales, api: ApiServer) -> None:
    assert scales.set("web", 0)
    assert replicas(api) == 0
    assert scales.read("web").replicas == 0


@pytest.mark.parametrize("answer", [409, 410, 429, 500, 503, "reset", "hang"])
@pytest.mark.parametrize("method", ["GET", "PATCH"])
def test_what_may_pass_is_tried_again(scales: Scales, api: ApiServer, method: str, answer: int | str) -> None:
    api.fail(method, "web/scale", answer, times=2)
    assert scales.set("web", 3)
    assert replicas(api) == 3
    code = {"reset": "unreachable", "hang": "timeout"}.get(str(answer), str(answer))
    assert scales.failures == {code: 2}


def test_a_patch_that_arrived_although_its_answer_did_not_is_not_repeated(
    scales: Scales, api: ApiServer
) -> None:
    api.fail("PATCH", "web/scale", "late")
    assert scales.set("web", 3)
    assert replicas(api) == 3
    assert api.num_calls("PATCH", "web") == 1


def test_a_conflict_is_answered_by_reading_again(scales: Scales, api: ApiServer) -> None:
    api.fail("PATCH", "web/scale", 409)
    scales.set("web", 3)
    assert [method for method, _ in api.calls] == ["GET", "PATCH", "GET", "PATCH"]


def test_the_server_says_how_long_to_wait(scales: Scales, api: ApiServer, slept: list[float]) -> None:
    api.fail("PATCH", "web/scale", 429, headers={"Retry-After": "7"})
    scales.set("web", 3)
    assert slept == [7.0]


def test_waiting_longer_than_the_budget_is_given_up_at_once(client: ApiClient, api: ApiServer) -> None:
    api.store(RESOURCE, "web", stateful_set(1))
    api.fail("PATCH", "web/scale", 429, headers={"Retry-After": "3600"})
    with pytest.raises(ApiFailure, match="429") as failed:
        Scales(client, NAMESPACE).set("web", 3)
    assert failed.value.retriable
    assert replicas(api) == 1


@pytest.mark.parametrize(
    ("status", "advice"), [(403, "Role does not allow"), (404, "in this namespace"), (422, "422")]
)
def test_what_will_not_pass_is_said_at_once(scales: Scales, api: ApiServer, status: int, advice: str) -> None:
    api.fail("PATCH", "web/scale", status)
    with pytest.raises(ApiFailure, match=advice) as failed:
        scales.set("web", 3)
    assert not failed.value.retriable
    assert api.num_calls("PATCH", "web") == 1


def test_whoever_may_no_longer_sends_nothing(scales: Scales, api: ApiServer) -> None:
    answers = iter([True, False])
    assert not scales.set("web", 3, may=lambda: next(answers))
    assert api.num_calls("PATCH", "web") == 0


def test_of_two_writers_one_reads_again(scales: Scales, client: ApiClient, api: ApiServer) -> None:
    other = Scales(client, NAMESPACE)
    answers = iter([lambda: True, lambda: other.set("web", 7)])

    def may() -> bool:
        return next(answers, lambda: True)()

    assert scales.set("web", 3, may=may)
    assert scales.failures == {"409": 1}
    assert replicas(api) == 3
