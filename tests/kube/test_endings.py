"""Which pods are ending, from what the slices of a Service say."""

from __future__ import annotations

import pytest
from kubernetes.client import V1EndpointSlice

from kube.slices import endpoint_slice
from pipespec.kube.endings import Endings


def a_slice(service: str, *, name: str = "s", **pods: bool | None) -> V1EndpointSlice:
    """Pods by name, with dashes for underscores; True: terminating; None: nothing is said."""
    return V1EndpointSlice.model_validate(endpoint_slice(service, name=name, **pods))


@pytest.fixture
def endings() -> Endings:
    return Endings(["draft", "target"])


def ending(endings: Endings, rank: int) -> set[str]:
    return {pod for at, pod in endings.members() if at == rank}


def test_nothing_is_said_before_anything_is_known(endings: Endings) -> None:
    assert endings.members() == frozenset()


def test_a_terminating_pod_is_ending(endings: Endings) -> None:
    endings.on_list([a_slice("target", target_0=False, target_1=True, target_2=None)])
    assert ending(endings, 1) == {"target-1"}
    assert ending(endings, 0) == set()


def test_a_pod_that_is_gone_is_ending(endings: Endings) -> None:
    endings.on_list([a_slice("target", target_0=False, target_1=False)])
    endings.on_change(a_slice("target", target_0=False))
    assert ending(endings, 1) == {"target-1"}


def test_a_pod_that_went_while_nobody_watched_is_ending(endings: Endings) -> None:
    endings.on_list([a_slice("target", target_0=False, target_1=False)])
    endings.on_list([a_slice("target", target_0=False)])
    assert ending(endings, 1) == {"target-1"}


def test_a_pod_that_comes_back_under_its_name_lives(endings: Endings) -> None:
    endings.on_list([a_slice("target", target_0=True)])
    endings.on_change(a_slice("target"))
    assert ending(endings, 1) == {"target-0"}
    endings.on_change(a_slice("target", target_0=False))
    assert ending(endings, 1) == set()


def test_one_endpoint_that_is_not_terminating_makes_a_living_pod(endings: Endings) -> None:
    endings.on_list([a_slice("draft", name="v4", draft_0=True), a_slice("draft", name="v6", draft_0=False)])
    assert ending(endings, 0) == set()


def test_a_pod_that_moves_to_another_slice_lives(endings: Endings) -> None:
    endings.on_list([a_slice("draft", name="a", draft_0=False)])
    endings.on_change(a_slice("draft", name="b", draft_0=False))
    endings.on_delete(a_slice("draft", name="a"))
    assert ending(endings, 0) == set()


def test_a_stage_scaled_to_none_has_only_endings(endings: Endings) -> None:
    endings.on_list([a_slice("draft", draft_0=False)])
    endings.on_change(a_slice("draft"))
    assert ending(endings, 0) == {"draft-0"}


def test_without_its_service_nothing_is_known_of_a_stage(endings: Endings) -> None:
    endings.on_list([a_slice("draft", draft_0=True)])
    endings.on_delete(a_slice("draft"))
    assert ending(endings, 0) == set()


def test_slices_of_others_are_nobodys_business(endings: Endings) -> None:
    endings.on_list(
        [
            a_slice("database", database_0=True),
            V1EndpointSlice.model_validate({"addressType": "IPv4", "endpoints": None}),
        ]
    )
    assert endings.members() == frozenset()
    endings.on_change(a_slice("draft", name="s", draft_0=True))
    endings.on_change(a_slice("database", name="s", database_0=True))
    assert ending(endings, 0) == set()
