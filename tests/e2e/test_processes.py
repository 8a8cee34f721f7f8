"""The whole thing as a user runs it: ``pipespec up --detach``, every kind of client, killed stages, ``pipespec down``."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import grpc
import httpx
import pytest
import torch
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message_factory import GetMessageClass
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase
from openai import AsyncOpenAI, OpenAI
from transformers import AutoModelForCausalLM

from e2e.detached import Detached, detached
from engine.tiny import save_tiny_model
from pipespec.client import AsyncClient, Client
from pipespec.gateway.text import ChatMessage, TextModel
from pipespec.v1 import pipespec_pb2, pipespec_pb2_grpc

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]
PROMPTS = [
    "Once upon a time",
    "def f(x):\n    ",
    "Grüße 🙂",
    "1, 2, 3,",
    "a",
    "Lists:\n- one\n- two\n",
    "日本",
    "The end",
]


@dataclass(frozen=True)
class Running(Detached):
    """A detached pipeline of tiny models."""

    target: Path

    def expected(self, prompt: str, max_tokens: int) -> list[int]:
        """The target's own greedy decoding, by transformers."""
        text = TextModel.load(self.target)
        model = AutoModelForCausalLM.from_pretrained(self.target, dtype=torch.float32)
        ids = torch.tensor([text.encode(prompt)])
        output = model.generate(
            ids,
            attention_mask=torch.ones_like(ids),
            max_new_tokens=max_tokens,
            do_sample=False,
            pad_token_id=0,
        )
        return [int(token) for token in output[0, ids.shape[1] :]]

    def text_of(self, ids: list[int]) -> str:
        """What the gateway says for these ids."""
        detokenizer = TextModel.load(self.target).detokenizer()
        return "".join([*(detokenizer.step(token) for token in ids), detokenizer.flush()])  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """draft -> middle -> target, two brokers, free ports."""
    root = tmp_path_factory.mktemp("up")
    target = save_tiny_model(root / "target", seed=1)
    middle = save_tiny_model(root / "middle", seed=2, agree_with=target, noise=0.05)
    draft = save_tiny_model(root / "draft", seed=3, agree_with=target, noise=0.1)
    zero = {"publish_port": 0, "subscribe_port": 0}
    document = {
        "name": "tiny",
        "stages": [{"model": str(folder), "device": "cpu"} for folder in (draft, middle, target)],
        "brokers": [zero, zero],
        "gateway": {"http_port": 0, "grpc_port": 0, "zmq_port": 0, "model_name": "tiny"},
    }
    with detached(document, root) as up:
        yield Running(up.pipeline, up.folder, target)


def test_the_unmodified_openai_client_completes_and_streams(running: Running) -> None:
    client = OpenAI(base_url=running.http, api_key="none")
    expected = running.text_of(running.expected(PROMPTS[0], 40))
    completion = client.completions.create(model="tiny", prompt=PROMPTS[0], max_tokens=40, temperature=0)
    assert completion.choices[0].text == expected
    assert completion.usage is not None
    assert completion.usage.completion_tokens <= 40
    stream = client.completions.create(
        model="tiny", prompt=PROMPTS[0], max_tokens=40, temperature=0, stream=True
    )
    assert "".join(chunk.choices[0].text for chunk in stream if chunk.choices) == expected


def test_the_openai_chat_stream_is_the_chat_completion(running: Running) -> None:
    client = OpenAI(base_url=running.http, api_key="none")
    asked = {
        "model": "tiny",
        "messages": [{"role": "user", "content": "Hi 🙂"}],
        "max_tokens": 30,
        "temperature": 0.8,
        "seed": 5,
    }
    whole = client.chat.completions.create(**asked)  # type: ignore[call-overload]
    stream = client.chat.completions.create(**asked, stream=True)  # type: ignore[call-overload]
    parts = [chunk.choices[0].delta.content or "" for chunk in stream if chunk.choices]
    assert "".join(parts) == whole.choices[0].message.content
    text = TextModel.load(running.target)
    assert whole.usage.prompt_tokens == len(text.render_chat([ChatMessage("user", "Hi 🙂")]))


def test_grpc_by_generated_stubs(running: Running) -> None:
    address = running.url("grpc").removeprefix("grpc://")
    with grpc.insecure_channel(address) as channel:
        stub = pipespec_pb2_grpc.GenerationStub(channel)
        greedy = pipespec_pb2.Sampling(temperature=0)
        request = pipespec_pb2.GenerateRequest(text=PROMPTS[1], max_tokens=20, sampling=greedy)
        ids: list[int] = []
        for response in stub.Generate(request, timeout=60):
            ids += response.delta.token_ids
    assert ids == running.expected(PROMPTS[1], 20)


def test_grpc_by_reflection_alone(running: Running) -> None:
    address = running.url("grpc").removeprefix("grpc://")
    with grpc.insecure_channel(address) as channel:
        pool = DescriptorPool(ProtoReflectionDescriptorDatabase(channel))
        method = pool.FindServiceByName("pipespec.v1.Generation").FindMethodByName("Generate")
        request_type, response_type = GetMessageClass(method.input_type), GetMessageClass(method.output_type)
        call = channel.unary_stream(
            "/pipespec.v1.Generation/Generate",
            request_serializer=request_type.SerializeToString,
            response_deserializer=response_type.FromString,
        )
        request = request_type(text=PROMPTS[1], max_tokens=20)
        request.sampling.temperature = 0
        responses = list(call(request, timeout=60))
    ids = [token for response in responses for token in response.delta.token_ids]
    assert ids == running.expected(PROMPTS[1], 20)


@pytest.mark.parametrize("scheme", ["grpc", "zmq"])
def test_the_client_library_over_both_transports(running: Running, scheme: str) -> None:
    with Client(running.url(scheme)) as client:
        completion = client.generate(PROMPTS[2], max_tokens=30, temperature=0, include_stats=True)
    assert list(completion.token_ids) == running.expected(PROMPTS[2], 30)
    assert [stage.rank for stage in completion.stats] == [0, 1, 2]


async def test_eight_sessions_at_once_over_three_protocols(running: Running) -> None:
    openai = AsyncOpenAI(base_url=running.http, api_key="none")

    async def by_http(prompt: str) -> str:
        answer = await openai.completions.create(model="tiny", prompt=prompt, max_tokens=40, temperature=0)
        return answer.choices[0].text

    async def by_library(scheme: str, prompt: str) -> str:
        async with AsyncClient(running.url(scheme)) as client:
            return (await client.generate(prompt, max_tokens=40, temperature=0)).text

    asked = [by_http(p) for p in PROMPTS[:3]]
    asked += [by_library("grpc", p) for p in PROMPTS[3:6]] + [by_library("zmq", p) for p in PROMPTS[6:]]
    answers = await asyncio.gather(*asked)
    await openai.close()
    assert answers == [running.text_of(running.expected(prompt, 40)) for prompt in PROMPTS]


@pytest.mark.parametrize("rank", [0, 1, 2], ids=["draft", "middle", "target"])
def test_a_killed_stage_does_not_change_the_output(running: Running, rank: int) -> None:
    with Client(running.url("grpc")) as client:
        stream = client.stream(PROMPTS[3], max_tokens=300, temperature=0, ignore_eos=True)
        ids = list(next(stream).token_ids)
        victim = running.stage(rank)
        victim.kill()
        for chunk in stream:
            ids += chunk.token_ids
        alone = client.generate(
            PROMPTS[3], max_tokens=300, temperature=0, ignore_eos=True, speculate=False, timeout_s=60
        )
    assert ids == list(alone.token_ids)
    assert len(ids) == 300


def test_every_process_shows_health_and_metrics_and_has_one_compute_thread(running: Running) -> None:
    gateway = running.pipeline.gateway.metrics_port
    asked = [(gateway, "pipespec_gateway_committed_tokens_total")]
    asked += [(b.metrics_port, "pipespec_broker_sent_messages_total") for b in running.pipeline.brokers]
    asked += [(port, "pipespec_stage_accepted_total") for port in running.stage_ports]
    for port, metric in asked:
        for path in ("healthz", "livez", "readyz"):
            assert httpx.get(f"http://127.0.0.1:{port}/{path}").status_code == 200
        assert metric in httpx.get(f"http://127.0.0.1:{port}/metrics").text
    for rank in range(3):
        environment = running.stage(rank).environ()
        assert environment["OMP_NUM_THREADS"] == "1"


def test_nobody_logged_an_error(running: Running) -> None:
    for log in (running.folder / "logs").glob("*.log"):
        text = log.read_text()
        assert "Traceback" not in text, f"{log.name}: {text[-2000:]}"
