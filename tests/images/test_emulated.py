"""The chart's emulated example as pods: what its chain says can be computed without any chain."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping

import pytest

from images.cluster import Cluster
from images.examples import cluster_of
from images.processes import first_process
from images.streams import Ask, Load, over_client, over_http
from images.workloads import helm_tests_of
from pipespec.emulation.chain import language_of
from pipespec.emulation.vocabulary import byte_tokenizer

pytestmark = pytest.mark.timeout(600)
NUM_TOKENS = 120
NUM_STREAMS = 12


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    """One target, two of everything else."""
    with cluster_of("emulated", "stages.target.replicas=1", "gateway.drainDelayS=1") as running:
        yield running


@pytest.fixture
def asks(cluster: Cluster) -> dict[str, Ask]:
    """A client of each protocol at each gateway pod."""
    clients: dict[str, Ask] = {}
    for ordinal, pod in enumerate(cluster.workloads["gateway"].pods):
        host = cluster.address(pod)
        clients[f"HTTP {ordinal}"] = over_http(f"http://{host}:8000", cluster.pipeline.model_name)
        clients[f"gRPC {ordinal}"] = over_client(f"grpc://{host}:8001")
        clients[f"ZeroMQ {ordinal}"] = over_client(f"zmq://{host}:8002")
    return clients


def assert_right(cluster: Cluster, texts: Mapping[str, str]) -> None:
    """Every text is what the target alone would say."""
    tokenizer, language = byte_tokenizer(), language_of(cluster.pipeline.stages)
    wrong = [
        prompt
        for prompt, text in texts.items()
        if text != tokenizer.decode(language.target_text(tokenizer.encode(prompt).ids, NUM_TOKENS))
    ]
    assert not wrong


async def test_every_protocol_gives_the_targets_text(cluster: Cluster, asks: dict[str, Ask]) -> None:
    texts = await asyncio.gather(*(ask("Once upon a time", NUM_TOKENS) for ask in asks.values()))
    assert set(texts) == {texts[0]}
    assert_right(cluster, {"Once upon a time": texts[0]})


def test_every_process_is_unprivileged_on_a_read_only_root(cluster: Cluster) -> None:
    for pod in cluster.running:
        process = first_process(cluster, pod)
        assert process.pid_inside == 1
        assert "dumb-init" in process.command[0], pod
        assert (process.uid, process.gid) == (10001, 10001), pod
        assert process.capabilities == 0, pod
        assert not process.may_gain_rights, pod
        assert not process.is_root_writable, pod


def test_the_pods_of_helm_test_succeed(cluster: Cluster) -> None:
    for pod in helm_tests_of(cluster.release):
        assert cluster.complete(pod, timeout_s=60)


async def test_streams_outlive_scaling_a_death_and_a_drain(
    cluster: Cluster, asks: dict[str, Ask], say: Callable[[str], None]
) -> None:
    """The target goes from one pod to three, loses one without a word, gets it back, and goes down to one."""
    target = cluster.workloads["stage-target"]
    clients = {
        f"{name}, stream {n}": ask for n in range(NUM_STREAMS // len(asks)) for name, ask in asks.items()
    }
    async with Load(clients, NUM_TOKENS) as load:
        await load.advance(NUM_STREAMS)
        pods = await asyncio.to_thread(cluster.scale, target, 3)
        await asyncio.to_thread(cluster.await_ready, *pods)
        await load.until(lambda: all(cluster.sessions(pod) for pod in pods))
        victim, held = pods[0], cluster.sessions(pods[0])
        await asyncio.to_thread(cluster.kill, victim)
        await load.advance(NUM_STREAMS)
        await asyncio.to_thread(cluster.scale, target, 3)
        await asyncio.to_thread(cluster.await_ready, victim)
        await load.until(lambda: all(cluster.sessions(pod) for pod in pods))
        for pod in (pods[2], pods[1]):
            assert await asyncio.to_thread(cluster.end, pod) == 0, pod
        await load.advance(NUM_STREAMS)
    assert_right(cluster, load.texts)
    say(
        f"emulated: {len(load.texts)} streams of {NUM_TOKENS} tokens over HTTP, gRPC and ZeroMQ, {NUM_STREAMS} at once,"
    )
    say(
        f"  while the target went 1, 3, 2 (killed with {held} sessions), 3, 1 pods: all equal to the target's own text"
    )


async def test_a_gateway_that_ends_finishes_its_streams_first(cluster: Cluster, asks: dict[str, Ask]) -> None:
    leaving = {f"{name}, last": ask for name, ask in asks.items() if name.endswith(" 1")}
    running = {prompt: asyncio.create_task(ask(prompt, NUM_TOKENS)) for prompt, ask in leaving.items()}
    await asyncio.sleep(0.5)  # they are in the middle of their texts
    gateway = cluster.workloads["gateway"]
    assert await asyncio.to_thread(cluster.end, gateway.pod_name(1)) == 0
    assert_right(cluster, {prompt: await task for prompt, task in running.items()})
    cluster.scale(gateway, gateway.replicas)
    await asyncio.to_thread(cluster.await_ready, gateway.pod_name(1))


def test_every_process_ends_with_status_zero_when_it_is_told_to(
    cluster: Cluster, say: Callable[[str], None]
) -> None:
    say(f"emulated: seconds until ready: {cluster.start_times()}")
    statuses = {pod: cluster.end(pod) for pod in list(cluster.running)}
    assert set(statuses.values()) == {0}, statuses
