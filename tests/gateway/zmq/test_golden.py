"""Golden bytes of the ZeroMQ edge: gateway, client library and clients in other languages agree on them.

``proto/pipespec/v1/zmq_golden.json`` holds every message kind as its fields and as its bytes.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgpack
import pytest

from gateway.scripted_backend import STATS
from pipespec.client import completion
from pipespec.client.request import Request, Resumption
from pipespec.client.zmq_messages import pack_cancel, pack_generate, pack_ping, pack_resume
from pipespec.client.zmq_messages import unpack as client_unpack
from pipespec.gateway.generation import Delta, Done, FinishReason, Usage
from pipespec.gateway.resume import Frame, StreamToken
from pipespec.gateway.zmq.messages import (
    Cancel,
    Generate,
    Ping,
    Resume,
    pack_error,
    pack_event,
    pack_frame,
    pack_pong,
    pack_started,
    unpack,
)
from pipespec.ops.errors import Overloaded
from pipespec.protocol.ids import Position, TokenId

GOLDEN: dict[str, Any] = json.loads(
    (Path(__file__).parents[3] / "proto/pipespec/v1/zmq_golden.json").read_text(encoding="utf-8")
)
BYTES = {name: bytes.fromhex(entry["hex"]) for name, entry in GOLDEN.items()}

ASKED = Request(
    request_id="r1",
    text="Hi 👍",
    model="small",
    max_tokens=8,
    timeout_s=2.5,
    sampling={"temperature": 0.5, "seed": 2**64 - 1, "logit_bias": {5: -1.5}},
    stop=("\n",),
    speculate=False,
    include_stats=True,
)
STREAM = StreamToken("g0", bytes(range(16)))
SENT = {
    "tokens": pack_event("r1", Delta(0, "Hi", (TokenId(5), TokenId(300)), Position(3))),
    "done": pack_event("r1", Done(0, FinishReason.LENGTH, Usage(4, 5), tuple(STATS))),
    "error": pack_error("r1", Overloaded("full", retry_after_s=2.5)),
    "pong": pack_pong(model="small", ready=True),
    "generate": pack_generate(ASKED),
    "cancel": pack_cancel("r1"),
    "ping": pack_ping(["r1", "r2"]),
    "started": pack_started("r1", STREAM),
    "tokens of a resumable stream": pack_frame(
        "r1", STREAM, Frame(3, pack_event("", Delta(0, "Hi", (TokenId(5), TokenId(300)), Position(3))))
    ),
    "resume": pack_resume(Resumption(resume_id=STREAM.event(3), request_id="r2")),
    "cancel of a resumable stream": pack_cancel("r3", resume_id=STREAM.event(3)),
}


@pytest.mark.parametrize("name", GOLDEN)
def test_the_bytes_hold_what_the_file_says(name: str) -> None:
    held = msgpack.unpackb(BYTES[name], strict_map_key=False)
    assert json.loads(json.dumps(held)) == GOLDEN[name]["message"]


@pytest.mark.parametrize("name", GOLDEN)
def test_every_kind_is_packed_to_its_golden_bytes(name: str) -> None:
    assert SENT[name].hex() == GOLDEN[name]["hex"]


def test_no_kind_is_without_golden_bytes() -> None:
    assert set(GOLDEN) == set(SENT)


def test_the_gateway_reads_what_clients_say() -> None:
    generate = unpack([BYTES["generate"]])
    assert isinstance(generate, Generate)
    request = generate.to_request()
    assert (request.max_tokens, request.seed, request.stop) == (8, 2**64 - 1, ("\n",))
    assert request.sampling.logit_bias == ((5, -1.5),)
    assert unpack([BYTES["cancel"]]) == Cancel(v=1, type="cancel", id="r1")
    resume = Resume(v=1, type="resume", id="r2", resume_id=STREAM.event(3))
    assert unpack([BYTES["resume"]]) == resume
    ended = Cancel(v=1, type="cancel", id="r3", resume_id=STREAM.event(3))
    assert unpack([BYTES["cancel of a resumable stream"]]) == ended
    assert unpack([BYTES["ping"]]) == Ping(v=1, type="ping", ids=["r1", "r2"])


def test_the_client_reads_what_the_gateway_says() -> None:
    assert client_unpack(BYTES["tokens"]) == ("r1", completion.Chunk("Hi", (5, 300), 3))
    named = ("r1", completion.Chunk("Hi", (5, 300), 3, STREAM.event(3)))
    assert client_unpack(BYTES["tokens of a resumable stream"]) == named
    assert client_unpack(BYTES["started"]) == ("r1", completion.Started(str(STREAM)))
    assert client_unpack(BYTES["pong"]) == (None, None)
    _, done = client_unpack(BYTES["done"])
    assert isinstance(done, completion.Finished)
    assert (done.finish_reason, done.usage) == ("length", completion.Usage(4, 5))
    assert [stage.busy_us for stage in done.stats] == [stats.counters.busy_us for stats in STATS]
    _, error = client_unpack(BYTES["error"])
    assert isinstance(error, Overloaded)
    assert error.retry_after_s == 2.5
