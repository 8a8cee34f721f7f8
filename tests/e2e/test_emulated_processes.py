"""Emulated stages as real processes: three protocols, killed replicas, and the text that was to be said."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path

import httpx
import psutil
import pytest
import yaml
from openai import AsyncOpenAI

from e2e.detached import Detached, detached
from pipespec.cli.main import run
from pipespec.client import AsyncClient
from pipespec.emulation.chain import language_of
from pipespec.emulation.vocabulary import byte_tokenizer

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(180)]
EXAMPLE = Path(__file__).parents[2] / "examples" / "emulated-two-stages.yaml"
NUM_SESSIONS = 6
"""Some on each replica."""


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Detached]:
    """The example, two replicas of each stage, with a draft that is often wrong."""
    document = yaml.safe_load(EXAMPLE.read_text())
    document["stages"][0]["emulation"]["agreement"] = 0.5
    document["gateway"] = {"http_port": 0, "grpc_port": 0, "zmq_port": 0}
    document["timers"] = {"heartbeat_ms": 50, "dead_ms": 1000}
    with detached(document, tmp_path_factory.mktemp("emulated")) as up:
        yield up


def expected(running: Detached, prompt: str, num_tokens: int) -> str:
    """The target's own text, computed without any pipeline."""
    tokenizer = byte_tokenizer()
    language = language_of(running.pipeline.stages)
    return str(tokenizer.decode(language.target_text(tokenizer.encode(prompt).ids, num_tokens)))


def num_sessions(port: int) -> int:
    """Sessions that a stage replica holds, by its metrics."""
    lines = httpx.get(f"http://127.0.0.1:{port}/metrics").text.splitlines()
    (line,) = [line for line in lines if line.startswith("pipespec_stage_sessions ")]
    return int(float(line.split()[1]))


async def test_all_protocols_give_the_targets_text_without_any_model(running: Detached) -> None:
    prompts = ["Once upon a time", "Grüße 🙂", "日本"]
    async with (
        AsyncOpenAI(base_url=running.http, api_key="none") as http,
        AsyncClient(running.url("grpc")) as grpc,
        AsyncClient(running.url("zmq")) as zmq,
    ):
        answers = await asyncio.gather(
            http.completions.create(model="emulated", prompt=prompts[0], max_tokens=50, temperature=0),
            grpc.generate(prompts[1], max_tokens=50, temperature=0),
            zmq.generate(prompts[2], max_tokens=50, temperature=0),
        )
        chat = await http.chat.completions.create(
            model="emulated", messages=[{"role": "user", "content": "Hi"}], max_tokens=20, temperature=0
        )
    texts = [answers[0].choices[0].text, answers[1].text, answers[2].text]
    assert texts == [expected(running, prompt, 50) for prompt in prompts]
    rendered = "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n"
    assert chat.choices[0].message.content == expected(running, rendered, 20)


def test_top_shows_every_stage_replica_and_gateway(
    running: Detached, capsys: pytest.CaptureFixture[str]
) -> None:
    file = ["--pipeline", str(running.folder / "pipeline.yaml")]
    assert run(["top", "--json", *file]) == 0
    seen = json.loads(capsys.readouterr().out)
    assert [(row["rank"], row["name"]) for row in seen["replicas"]] == [
        (0, "r0"),
        (0, "r1"),
        (1, "r0"),
        (1, "r1"),
    ]
    assert [stage["ready"] for stage in seen["stages"]] == [2, 2]
    assert [gateway["beat"]["replica"] for gateway in seen["gateways"]] == ["g0"]
    assert run(["top", "--once", "--replicas", *file]) == 0
    shown = capsys.readouterr().out
    assert "2/2" in shown
    assert "g0" in shown


@pytest.mark.parametrize("rank", [0, 1], ids=["draft", "target"])
async def test_a_killed_replica_changes_nothing_of_what_its_sessions_say(
    running: Detached, rank: int
) -> None:
    prompts = [f"session {index}" for index in range(NUM_SESSIONS)]
    async with AsyncClient(running.url("grpc")) as client:
        streams = [client.stream(prompt, max_tokens=150, temperature=0) for prompt in prompts]
        texts = [(await anext(stream)).text for stream in streams]
        assert num_sessions(running.stage_ports[2 * rank]) > 0
        running.stage(rank, "r0").kill()

        async def rest(index: int) -> str:
            return "".join([chunk.text async for chunk in streams[index]])

        rests = await asyncio.gather(*(rest(index) for index in range(NUM_SESSIONS)))
    assert [first + then for first, then in zip(texts, rests, strict=True)] == [
        expected(running, prompt, 150) for prompt in prompts
    ]


@pytest.mark.skipif(not psutil.LINUX, reason="reads memory maps")
def test_no_process_loads_torch(running: Detached) -> None:
    for process in running.processes():
        assert not [mapped.path for mapped in process.memory_maps() if "torch" in mapped.path]


def test_nobody_logged_an_error(running: Detached) -> None:
    logs = list((running.folder / "logs").glob("*.log"))
    assert logs
    for log in logs:
        assert "Traceback" not in log.read_text(), log.name
