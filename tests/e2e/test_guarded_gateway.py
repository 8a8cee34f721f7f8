"""A pipeline with keys and a certificate, as a user runs it: who gets in where, and keys that change while it serves."""

from __future__ import annotations

import asyncio
import ssl
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
import yaml
from openai import AsyncOpenAI

from e2e.detached import Detached, detached
from gateway.access.keys import CA, common_name, lay_certificate, trusting
from pipespec.cli.main import ASKED_WRONGLY, run
from pipespec.client import AsyncClient
from pipespec.ops.errors import RequestError

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(180)]
EXAMPLE = Path(__file__).parents[2] / "examples" / "emulated-two-stages.yaml"
TIMEOUT_S = 60
ASK = {"model": "emulated", "prompt": "Once upon a time", "max_tokens": 8, "temperature": 0}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Keys and certificate; the first key is in ``first-key``."""
    folder = tmp_path_factory.mktemp("guarded")
    lay_certificate("first", folder)
    return folder


@pytest.fixture(scope="module")
def running(folder: Path) -> Iterator[Detached]:
    """The example, one replica of each stage, behind keys and TLS."""
    with pytest.MonkeyPatch.context() as patch:
        (folder / "first-key").write_text(new_key(folder, patch))
    document = yaml.safe_load(EXAMPLE.read_text())
    for stage in document["stages"]:
        stage["replicas"] = 1
    document["gateway"] = {
        "http_port": 0,
        "grpc_port": 0,
        "zmq_port": 0,
        "model_name": "emulated",
        "api_keys": str(folder / "keys.yaml"),
        "zmq_insecure": True,
        "tls_certificate": str(folder / "tls.crt"),
        "tls_key": str(folder / "tls.key"),
    }
    with detached(document, folder) as up:
        yield up


def new_key(folder: Path, patch: pytest.MonkeyPatch) -> str:
    """Made by the command, as an operator would."""
    said: list[str] = []
    patch.setattr("click.echo", said.append)
    assert run(["api-keys", "new", str(folder / "keys.yaml"), "alice"]) == 0
    return said[0]


@pytest.fixture
def key(folder: Path, running: Detached) -> str:
    return (folder / "first-key").read_text()


def base(running: Detached) -> str:
    return running.http.replace("http://", "https://")


async def status(running: Detached, key: str | None) -> int:
    headers = {} if key is None else {"Authorization": f"Bearer {key}"}
    async with httpx.AsyncClient(verify=trusting(), timeout=TIMEOUT_S) as client:
        return (await client.post(f"{base(running)}/completions", json=ASK, headers=headers)).status_code


async def test_http_and_grpc_serve_those_with_a_key_over_tls_and_nobody_else(
    running: Detached, key: str
) -> None:
    async with (
        httpx.AsyncClient(verify=trusting(), timeout=TIMEOUT_S) as transport,
        AsyncOpenAI(base_url=base(running), api_key=key, http_client=transport) as client,
    ):
        answer = await client.completions.create(**ASK)  # type: ignore[call-overload] # of a dictionary
    assert await status(running, None) == 401
    assert await status(running, key + "x") == 401
    url = running.url("grpc").replace("grpc", "grpcs")
    async with AsyncClient(url, api_key=key, ca=CA) as grpc:
        completion = await grpc.generate("Once upon a time", max_tokens=8, temperature=0)
    assert completion.text == answer.choices[0].text
    async with AsyncClient(url, ca=CA) as stranger:
        with pytest.raises(RequestError, match="an API key is needed"):
            await stranger.generate("x")


async def test_metrics_are_at_their_own_port_only(running: Detached, key: str) -> None:
    headers = {"Authorization": f"Bearer {key}"}
    async with httpx.AsyncClient(verify=trusting(), timeout=TIMEOUT_S) as client:
        public = base(running).removesuffix("/v1")
        for path in ("/metrics", "/admin", "/v1/metrics"):
            assert (await client.get(public + path, headers=headers)).status_code == 404
            assert (await client.get(public + path)).status_code == 401
        own = f"http://127.0.0.1:{running.pipeline.gateway.metrics_port}"
        metrics = await client.get(f"{own}/metrics")
        assert 'pipespec_gateway_unauthorized_total{protocol="openai"}' in metrics.text
        assert (await client.get(f"{own}/v1/models")).status_code == 404


async def test_a_key_is_replaced_while_it_serves(
    running: Detached, folder: Path, key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    second = new_key(folder, monkeypatch)
    async with asyncio.timeout(TIMEOUT_S):
        while await status(running, second) != 200:
            await asyncio.sleep(0.1)
    assert await status(running, key) == 200, "both count while clients change over"
    document = yaml.safe_load((folder / "keys.yaml").read_text())
    first_entry = document["principals"][0]["keys"].pop(0)
    (folder / "keys.yaml").write_text(yaml.safe_dump(document))
    async with asyncio.timeout(TIMEOUT_S):
        while await status(running, key) != 401:
            await asyncio.sleep(0.1)
    assert await status(running, second) == 200
    (folder / "keys.yaml").write_text("nonsense: [")
    document["principals"][0]["keys"].append(first_entry)
    async with asyncio.timeout(TIMEOUT_S), httpx.AsyncClient() as client:
        metrics = f"http://127.0.0.1:{running.pipeline.gateway.metrics_port}/metrics"
        while 'outcome="unusable",what="api-keys"' not in (await client.get(metrics)).text:
            await asyncio.sleep(0.1)
    assert await status(running, second) == 200, "what cannot be used changes nothing"
    (folder / "keys.yaml").write_text(yaml.safe_dump(document))
    async with asyncio.timeout(TIMEOUT_S):
        while await status(running, key) != 200:
            await asyncio.sleep(0.1)


async def test_a_certificate_is_replaced_while_it_serves(running: Detached, folder: Path, key: str) -> None:
    def speaking_http2() -> ssl.SSLContext:
        context = trusting()
        context.set_alpn_protocols(["h2"])
        return context

    lay_certificate("second", folder)
    ports = running.pipeline.gateway
    async with asyncio.timeout(TIMEOUT_S):
        while await common_name(ports.http_port, trusting()) != "second":
            await asyncio.sleep(0.1)
        while await common_name(ports.grpc_port, speaking_http2()) != "second":
            await asyncio.sleep(0.1)
    assert await status(running, key) == 200


def test_no_key_is_in_any_log_or_file_of_the_run(running: Detached, key: str) -> None:
    for file in running.folder.rglob("*"):
        if file.is_file():
            assert key not in file.read_text(errors="replace"), file


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"host": "10.0.0.7"}, "no key is asked for"),
        ({"api_keys": "keys.yaml"}, "ZeroMQ clients would need no key"),
        ({"api_keys": "nowhere.yaml", "zmq_insecure": True}, "cannot read the API keys in nowhere.yaml"),
        ({"tls_certificate": "nowhere.crt", "tls_key": "nowhere.key"}, "cannot read nowhere.crt"),
    ],
)
def test_a_gateway_that_cannot_be_guarded_does_not_start(
    tmp_path: Path, settings: dict[str, str], said: str
) -> None:
    document = yaml.safe_load(EXAMPLE.read_text())
    document["gateway"] = settings
    file = tmp_path / "pipeline.yaml"
    file.write_text(yaml.safe_dump(document))
    command = [sys.executable, "-m", "pipespec.cli", "serve", "gateway", "--pipeline", str(file)]
    done = subprocess.run(
        command, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=TIMEOUT_S
    )
    assert done.returncode == ASKED_WRONGLY
    assert said in done.stderr
    assert "Traceback" not in done.stderr
