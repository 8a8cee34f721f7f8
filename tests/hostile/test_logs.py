"""No prompt, answer or key is in what services write, whichever way a request ends."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import grpc
import httpx
import msgpack
import pytest

from e2e.detached import detached
from hostile.conftest import CHAIN
from hostile.edges import over_grpc, over_http, over_zmq
from hostile.intruder import GATEWAY, TARGET, raw_publisher
from hostile.site import Site
from pipespec.client import Client
from pipespec.ops.errors import RequestError
from pipespec.protocol.seal import seal
from pipespec.v1 import pipespec_pb2 as pb

pytestmark = pytest.mark.e2e

WORD = "Zq7-SeCrEt"
"""In every prompt, key and value here; no word of any log."""


@pytest.fixture
def own(tmp_path: Path) -> Iterator[Site]:
    """A chain of its own: its logs are read whole."""
    with detached({**CHAIN, "name": "silent"}, tmp_path) as up:
        yield Site(up)


def refused(site: Site) -> None:
    """Every kind of refusal that shows a client what it sent, over every protocol."""
    wrong = (
        {"prompt": [WORD, 5]},
        {"model": WORD},
        {"stop": [WORD] * 9},
        {"user": [WORD]},
        {"temperature": WORD},
        {WORD: 1},
        {"logit_bias": {WORD: 1}},
        {"prompt": WORD * 100_000},
        {"prompt": WORD, "max_tokens": 2**30},
        {"guided_regex": WORD},
        {"stream_options": {WORD: 1}},
    )
    for body in wrong:
        assert over_http(site, body).status in (400, 404)
    for raw in (WORD.encode(), f'{{"{WORD}": 1, "{WORD}": 2}}'.encode(), f'["{WORD}"]'.encode()):
        assert over_http(site, raw).code == "invalid_json"
    chat = {"messages": [{"role": WORD, "content": WORD}]}
    assert over_http(site, chat, "/v1/chat/completions").status == 400
    for request in (
        pb.GenerateRequest(text=WORD, model=WORD),
        pb.GenerateRequest(text=WORD, request_id=f"{WORD} {WORD}"),
        pb.GenerateRequest(text=WORD, stop=[WORD] * 9),
        pb.GenerateRequest(chat=pb.Chat(messages=[pb.Message(role=WORD, content=WORD)])),
        pb.GenerateRequest(text=WORD * 200_000),
        b"\x1a\xff" + WORD.encode(),
    ):
        assert over_grpc(site, request).status in ("INVALID_ARGUMENT", "NOT_FOUND")
    for message in (
        {"text": WORD, "model": WORD},
        {"text": WORD, WORD: 1},
        {"messages": [{"role": WORD, "content": WORD}]},
        {"text": WORD, "stop": [WORD] * 9},
        {"token_ids": [WORD]},
        WORD.encode(),
        bytes(msgpack.packb({WORD: WORD})),
    ):
        assert over_zmq(site, message).code is not None


def with_keys(site: Site) -> None:
    """Keys where they belong and where they do not, of a gateway that asks for none."""
    headers = {"authorization": f"Bearer {WORD}", "x-request-id": f"{WORD} {WORD}", "cookie": WORD}
    for path in ("/v1/models", f"/v1/models/{WORD}", f"/{WORD}", f"/v1/models?key={WORD}"):
        httpx.get(f"{site.http}{path}", headers=headers, timeout=60)
    with grpc.insecure_channel(site.grpc) as channel:
        method = channel.unary_stream("/pipespec.v1.Generation/Generate")
        raw = pb.GenerateRequest(text=WORD, max_tokens=2).SerializeToString()
        assert list(method(raw, metadata=[("authorization", f"Bearer {WORD}")], timeout=60))


def served(site: Site) -> list[str]:
    """Answers over every protocol, whole, streamed, cut off and cancelled; what was said."""
    body = {"model": site.running.pipeline.model_name, "prompt": WORD, "max_tokens": 40}
    said = [
        httpx.post(f"{site.http}/v1/completions", json=body, timeout=60).json()["choices"][0]["text"],
    ]
    with httpx.stream("POST", f"{site.http}/v1/completions", json={**body, "stream": True}) as answer:
        lines = [line for line in answer.iter_lines() if line.startswith("data: {")]
        said.append("".join(json.loads(line[6:])["choices"][0]["text"] for line in lines))
    with httpx.stream("POST", f"{site.http}/v1/completions", json={**body, "stream": True}) as answer:
        next(answer.iter_lines())
    for scheme in ("grpc", "zmq"):
        with Client(site.running.url(scheme)) as client:
            said.append(client.generate(WORD, max_tokens=40).text)
            with client.stream(WORD, max_tokens=1500) as stream:
                next(stream)
                stream.cancel()
                with pytest.raises(RequestError):
                    list(stream)
    return said


def moved(site: Site) -> None:
    """A request whose target is killed and comes back."""
    with Client(site.running.url("grpc")) as client:
        stream = client.stream(WORD, max_tokens=1500)
        next(stream)
        site.running.stage(1).kill()
        assert list(stream)


def test_no_log_has_a_prompt_an_answer_or_a_key(own: Site) -> None:
    with raw_publisher(own.running) as publisher:
        for topic in (GATEWAY, TARGET):
            publisher.send_multipart([topic, WORD.encode()])
            for unknown in ([1, WORD, WORD, 1, 1, [WORD]], [1, "echo", WORD, 1, 1, [WORD]]):
                publisher.send_multipart([topic, seal(topic, bytes(msgpack.packb(unknown)))])
    refused(own)
    with_keys(own)
    answers = served(own)
    moved(own)
    logs = own.logs()
    assert "gateway.listening" in logs  # these are the logs
    assert WORD not in logs
    assert all(len(answer) == 40 for answer in answers)
    assert not [answer for answer in answers if answer[:12] in logs]
