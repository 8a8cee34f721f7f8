"""The bus's keys are replaced while streams run: new key listed, everyone replaced, old key struck off, brokers replaced one by one.

No request fails, no text is wrong; afterwards the old key is refused, and a connection that was open with it is gone.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import httpx
import psutil
import pytest
import yaml

from bus.brokers import free_port
from e2e.detached import Detached, detached
from pipespec.bus.key_folder import KeyFolder
from pipespec.bus.keys import read_client_keys
from pipespec.bus.link import BusLink
from pipespec.client import AsyncClient
from pipespec.emulation.chain import language_of
from pipespec.emulation.vocabulary import byte_tokenizer
from pipespec.protocol.ids import observer_inbox

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(400)]
EXAMPLE = Path(__file__).parents[2] / "examples" / "emulated-two-stages.yaml"
NUM_CLIENTS = 4
NUM_TOKENS = 40
NUM_ON_BUS = 6
"""Two gateways, two replicas of two stages; each has two connections to every broker."""
_PATIENCE_S = 60.0


@pytest.fixture
def keys(tmp_path: Path) -> KeyFolder:
    made = KeyFolder(tmp_path / "keys")
    made.create("fleet", num_servers=2)
    return made


@pytest.fixture
def running(tmp_path: Path, keys: KeyFolder) -> Iterator[Detached]:
    document = yaml.safe_load(EXAMPLE.read_text())
    document["stages"] = [stage | {"drain_timeout_s": 30.0} for stage in document["stages"]]
    document["gateway"] = {"http_port": 0, "grpc_port": 0, "zmq_port": 0, "drain_timeout_s": 30.0}
    document["timers"] = {"heartbeat_ms": 50, "dead_ms": 1000}
    document["brokers"] = [{}, {}]
    document["bus"] = {"server_keys": str(keys.server), "client_keys": str(keys.client("fleet"))}
    with detached(document, tmp_path) as up:
        yield up


class SecondGateway:
    """Another gateway of the same pipeline, so that clients always have one to talk to."""

    def __init__(self, running: Detached, root: Path) -> None:
        document = yaml.safe_load((running.folder / "pipeline.yaml").read_text())
        ports = {name: free_port() for name in ("http_port", "grpc_port", "zmq_port", "metrics_port")}
        document["gateway"] |= ports
        self.ports = ports
        self._file = root / "second.yaml"
        self._file.write_text(yaml.safe_dump(document))
        self._log = root / "second.log"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        command = [sys.executable, "-m", "pipespec.cli", "serve", "gateway", "--replica", "g1"]
        command += ["--pipeline", str(self._file), "--parent", str(os.getpid())]
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log)

    def stop(self) -> None:
        if self._process is not None:
            self._process.terminate()
            self._process.wait(_PATIENCE_S)


@contextmanager
def second_gateway(running: Detached, root: Path) -> Iterator[SecondGateway]:
    gateway = SecondGateway(running, root)
    gateway.start()
    try:
        yield gateway
    finally:
        gateway.stop()


async def eventually(condition: Callable[[], bool]) -> None:
    until_s = time.monotonic() + _PATIENCE_S
    while not condition():
        assert time.monotonic() < until_s
        await asyncio.sleep(0.1)


def is_ready(port: int) -> bool:
    try:
        return httpx.get(f"http://127.0.0.1:{port}/readyz", timeout=5).status_code == httpx.codes.OK
    except httpx.TransportError:
        return False


def metric(port: int, name: str) -> float:
    try:
        lines = httpx.get(f"http://127.0.0.1:{port}/metrics", timeout=5).text.splitlines()
    except httpx.TransportError:
        return -1.0
    return next((float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith(name)), -1.0)


async def replaced(running: Detached, arguments: str, port: int) -> None:
    """End one process politely; return when its successor is ready."""
    (old,) = [p for p in running.processes() if arguments in " ".join(p.info["cmdline"])]
    old.terminate()
    await eventually(lambda: not old.is_running() or old.status() == psutil.STATUS_ZOMBIE)
    await eventually(lambda: is_ready(port))


async def test_keys_are_replaced_under_load_without_a_failed_request(
    running: Detached, keys: KeyFolder, tmp_path: Path
) -> None:
    tokenizer, language = byte_tokenizer(), language_of(running.pipeline.stages)
    brokers = running.pipeline.brokers
    old_keys = read_client_keys(keys.client("fleet"), num_servers=2)
    is_over = asyncio.Event()
    texts: dict[str, str] = {}
    with (
        second_gateway(running, tmp_path) as second,
        closing(BusLink(brokers, keys=old_keys, inbox=observer_inbox("old"))) as witness,
    ):
        await eventually(lambda: is_ready(second.ports["metrics_port"]))
        assert await asyncio.to_thread(witness.start, timeout_s=_PATIENCE_S)
        urls = [running.url("grpc"), f"grpc://127.0.0.1:{second.ports['grpc_port']}"]
        in_service = [True, True]

        async def keep_asking(number: int) -> None:
            """As behind a load balancer: at a gateway that is in service."""
            turn = 0
            async with AsyncClient(urls[0]) as first, AsyncClient(urls[1]) as other:
                while not is_over.is_set():
                    prompt = f"client {number}, turn {turn}"
                    choices = [one for one, ok in zip((first, other), in_service, strict=True) if ok]
                    client = choices[(number + turn) % len(choices)]
                    texts[prompt] = (await client.generate(prompt, max_tokens=NUM_TOKENS, temperature=0)).text
                    turn += 1

        asking = [asyncio.create_task(keep_asking(number)) for number in range(NUM_CLIENTS)]

        keys.add("fleet")
        for broker in brokers:
            port = broker.metrics_port
            await eventually(lambda port=port: metric(port, "pipespec_broker_listed_keys") == 2)

        ports = iter(running.stage_ports)
        for rank in range(2):
            for replica in ("r0", "r1"):
                await replaced(running, f"--rank {rank} --replica {replica} ", next(ports))
        in_service[0] = False
        await replaced(running, "serve gateway", running.pipeline.gateway.metrics_port)
        in_service[:] = [True, False]
        await asyncio.to_thread(second.stop)
        second.start()
        await eventually(lambda: is_ready(second.ports["metrics_port"]))
        in_service[1] = True

        keys.retire("fleet")
        for broker in brokers:
            port = broker.metrics_port
            await eventually(lambda port=port: metric(port, "pipespec_broker_listed_keys") == 1)
        assert witness.is_joined  # a struck-off key does not end a connection

        for index, broker in enumerate(brokers):
            port = broker.metrics_port
            await replaced(
                running, f"serve broker --pipeline {running.folder}/pipeline.yaml --index {index} ", port
            )
            await eventually(
                lambda port=port: metric(port, "pipespec_broker_accepted_handshakes_total") >= 2 * NUM_ON_BUS
            )
        await eventually(lambda: not witness.is_joined)
        refused = 'pipespec_broker_refused_handshakes_total{reason="unlisted_key"}'
        for broker in brokers:
            assert metric(broker.metrics_port, refused) >= 1

        before = len(texts)
        await eventually(lambda: len(texts) >= before + NUM_CLIENTS)
        is_over.set()
        await asyncio.gather(*asking)  # raises what a request raised

    assert len(texts) >= 3 * NUM_CLIENTS
    for prompt, text in texts.items():
        wanted = tokenizer.decode(language.target_text(tokenizer.encode(prompt).ids, NUM_TOKENS))
        assert text == wanted, prompt
