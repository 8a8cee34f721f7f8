"""Electors on a real API: one leads, the next follows, faults pass."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import pytest
from kubernetes.client import ApiClient

from kube.api_server import NAMESPACE, ApiServer
from kube.waiting import eventually
from pipespec.kube.elector import Elector
from pipespec.kube.failure import ApiFailure, Patience
from pipespec.kube.lease import LeaseRecord, LeaseTimes
from pipespec.kube.lease_store import KubernetesLease

TIMES = LeaseTimes(duration_s=2, renew_deadline_s=1.5, retry_s=0.05)
RESOURCE = "coordination.k8s.io/v1/leases"


def elector(client: ApiClient, name: str, times: LeaseTimes = TIMES) -> Elector:
    store = KubernetesLease(client, NAMESPACE, "scaler", patience=Patience(connect_s=0.5, read_s=0.3))
    return Elector(store, name=name, times=times)


def test_one_leads_and_the_other_takes_over_when_it_ends(client: ApiClient, api: ApiServer) -> None:
    with elector(client, "second") as second:
        with elector(client, "first", TIMES) as first:
            eventually(lambda: first.is_leading or second.is_leading)
            leader, other = (first, second) if first.is_leading else (second, first)
            eventually(lambda: other.leader in ("first", "second"))
            assert leader.is_leading
            assert not other.is_leading
        eventually(lambda: second.is_leading)
        assert second.leader == "second"
    spec = api.stored(RESOURCE, "scaler")["spec"]
    assert spec["holderIdentity"] == ""


def test_what_others_put_into_the_lease_stays(client: ApiClient, api: ApiServer) -> None:
    api.store(RESOURCE, "scaler", {"metadata": {"labels": {"team": "a"}}, "spec": {}})
    with elector(client, "first") as first:
        eventually(lambda: first.is_leading)
    lease = api.stored(RESOURCE, "scaler")
    assert lease["metadata"]["labels"] == {"team": "a"}
    assert lease["spec"]["leaseTransitions"] == 1


def test_whoever_read_an_older_lease_cannot_write_it(client: ApiClient, api: ApiServer) -> None:
    first, second = (KubernetesLease(client, NAMESPACE, "scaler") for _ in range(2))
    now = datetime.now(UTC)
    old = first.create(LeaseRecord("first", 15, acquired_at=now, renewed_at=now))
    new = second.replace(replace(old, holder="second"))
    with pytest.raises(ApiFailure, match="409"):
        first.replace(old)
    assert first.read() == new


def test_times_of_day_always_have_digits_after_the_point(client: ApiClient, api: ApiServer) -> None:
    """The server refuses a MicroTime without them."""
    at = datetime(2030, 1, 1, tzinfo=UTC)
    KubernetesLease(client, NAMESPACE, "scaler").create(LeaseRecord("a", 15, acquired_at=at, renewed_at=at))
    assert api.stored(RESOURCE, "scaler")["spec"]["renewTime"] == "2030-01-01T00:00:00.000001+00:00"


@pytest.mark.parametrize("answer", [409, 410, 429, 500, "reset", "hang"])
@pytest.mark.parametrize("method", ["GET", "POST", "PATCH"])
def test_a_fault_passes(client: ApiClient, api: ApiServer, method: str, answer: int | str) -> None:
    api.fail(method, "/leases", answer, times=2)
    with elector(client, "first") as first:
        eventually(lambda: first.failures.total() == 2)
        eventually(lambda: first.is_leading)


def test_a_leader_that_hears_nothing_leads_no_more_and_again_when_it_does(
    client: ApiClient, api: ApiServer
) -> None:
    with elector(client, "first") as first:
        eventually(lambda: first.is_leading)
        away = api.fail("GET", "/leases", "hang", times=10**6)
        eventually(lambda: not first.is_leading)
        away.times = 0
        eventually(lambda: first.is_leading)


def test_a_lease_that_cannot_be_given_back_does_not_hold_up_the_end(
    client: ApiClient, api: ApiServer
) -> None:
    with elector(client, "first") as first:
        eventually(lambda: first.is_leading)
        api.fail("PATCH", "/leases", 500, times=10**6)
    assert not first.is_leading
    assert not first.is_running
