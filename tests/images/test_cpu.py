"""The chart's CPU example as pods: a real model, baked into the images, with drafts and without."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator

import pytest

from images.cluster import Cluster
from images.examples import cluster_of
from images.streams import over_client, over_http
from images.workloads import helm_tests_of
from pipespec.client import AsyncClient

pytestmark = pytest.mark.timeout(600)
PROMPTS = ("The capital of France is", "for i in range(10):\n    print(", "One, two, three, four,")
NUM_TOKENS = 32


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with cluster_of("cpu", "gateway.drainDelayS=1") as running:
        yield running


async def alone(url: str) -> dict[str, tuple[tuple[int, ...], str]]:
    """Ids and text by prompt, from the target without any draft: what everything else has to be equal to."""
    texts = {}
    async with AsyncClient(url) as client:
        for prompt in PROMPTS:
            completion = await client.generate(prompt, max_tokens=NUM_TOKENS, temperature=0, speculate=False)
            texts[prompt] = (completion.token_ids, completion.text)
    return texts


async def test_the_chain_says_what_its_target_says_alone(
    cluster: Cluster, say: Callable[[str], None]
) -> None:
    (gateway,) = (cluster.address(pod) for pod in cluster.workloads["gateway"].pods)
    http, grpc, zmq = f"http://{gateway}:8000", f"grpc://{gateway}:8001", f"zmq://{gateway}:8002"
    expected = await alone(grpc)
    for url in (grpc, zmq):
        async with AsyncClient(url) as client:
            completions = await asyncio.gather(
                *(client.generate(prompt, max_tokens=NUM_TOKENS, temperature=0) for prompt in PROMPTS)
            )
        found = {
            prompt: (completion.token_ids, completion.text)
            for prompt, completion in zip(PROMPTS, completions, strict=True)
        }
        assert found == expected, url
    for ask in (over_http(http, cluster.pipeline.model_name), over_client(grpc)):
        for prompt, (_, text) in expected.items():
            assert await ask(prompt, NUM_TOKENS) == text
    say(f"CPU: {4 * len(PROMPTS)} streams of {NUM_TOKENS} tokens, all equal to the target's alone")


def test_the_pods_of_helm_test_succeed(cluster: Cluster) -> None:
    for pod in helm_tests_of(cluster.release):
        assert cluster.complete(pod, timeout_s=120)


def test_every_process_ends_with_status_zero_when_it_is_told_to(
    cluster: Cluster, say: Callable[[str], None]
) -> None:
    say(f"CPU: seconds until ready: {cluster.start_times()}")
    statuses = {pod: cluster.end(pod) for pod in list(cluster.running)}
    assert set(statuses.values()) == {0}, statuses
