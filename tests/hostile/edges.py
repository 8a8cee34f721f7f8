"""One request over each client protocol, as raw as it can be, and how it was refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import grpc
import httpx
import msgpack
import zmq

from hostile.site import Site
from pipespec.v1 import pipespec_pb2 as pb

GENERATE = "/pipespec.v1.Generation/Generate"


@dataclass(frozen=True)
class Refusal:
    """Status of the protocol (none over ZeroMQ), code and parameter."""

    status: int | str | None
    code: str | None
    param: str | None


def over_http(site: Site, body: dict[str, Any] | bytes, path: str = "/v1/completions") -> Refusal:
    """Post a body; what is no body already has the model's name and a prompt added."""
    if isinstance(body, dict):
        prompt = {"prompt": "x"} if path == "/v1/completions" else {}
        whole = {"model": site.running.pipeline.model_name, **prompt, **body}
        body = json.dumps(whole).replace("Infinity", "1e999").encode()
    response = httpx.post(
        f"{site.http}{path}", content=body, headers={"content-type": "application/json"}, timeout=60
    )
    error = response.json().get("error", {"code": None, "param": None})
    return Refusal(response.status_code, error["code"], error["param"])


def over_grpc(site: Site, request: pb.GenerateRequest | bytes) -> Refusal:
    """Call Generate with a message, or with bytes that should be one."""
    raw = request if isinstance(request, bytes) else request.SerializeToString()
    with grpc.insecure_channel(site.grpc) as channel:
        call = channel.unary_stream(GENERATE)(raw, timeout=60)
        try:
            list(call)
        except grpc.RpcError:
            trailers = {key: str(value) for key, value in call.trailing_metadata() or ()}
            return Refusal(call.code().name, trailers.get("pipespec-code"), trailers.get("pipespec-param"))
    return Refusal("OK", None, None)


def over_zmq(site: Site, message: dict[str, Any] | bytes) -> Refusal:
    """Send one frame; a map gets what every ``generate`` has."""
    if isinstance(message, dict):
        prompt = {} if message.keys() & {"token_ids", "messages"} else {"text": "x"}
        message = bytes(msgpack.packb({"v": 1, "type": "generate", "id": "a", **prompt, **message}))
    answer = ask_zmq(site, lambda socket: socket.send(message))
    return Refusal(None, answer.get("code"), answer.get("param"))


def ask_zmq(site: Site, send: Callable[[zmq.Socket[bytes]], Any]) -> dict[str, Any]:
    """What the gateway answers first to what ``send`` sends over a connection of its own."""
    with zmq.Context() as context, context.socket(zmq.DEALER) as socket:
        socket.setsockopt(zmq.LINGER, 0)
        socket.connect(site.zmq)
        send(socket)
        assert socket.poll(60_000), "no answer"
        return dict(msgpack.unpackb(socket.recv()))
