"""Streams as clients see them: when each token came, and every word about the end.

Raw HTTP and raw gRPC rather than the client library, which would repair or refuse what a test must see.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

import grpc
import httpx

from chaos.fleet import Fleet
from pipespec.v1 import pipespec_pb2 as pb
from pipespec.v1 import pipespec_pb2_grpc

DONE = "done"
CUT = "cut"
"""The connection ended without a word about the end."""


@dataclass(eq=False)
class Stream:
    """One request. Times are of the monotonic clock.

    Attributes:
        came_s: when tokens came, and at last the end.
        ids: over gRPC.
        text: of all pieces.
        ends: every terminal word; a right stream has one.
    """

    prompt: str
    num_tokens: int
    gateway: str
    asked_s: float = 0.0
    came_s: list[float] = field(default_factory=list)
    ids: list[int] = field(default_factory=list)
    text: str = ""
    ends: list[str] = field(default_factory=list)
    num_gaps: int = 0

    def tick(self) -> None:
        self.came_s.append(time.monotonic())

    @property
    def pauses(self) -> list[tuple[float, float]]:
        """(end, length) of each time without a token, from the request on."""
        before = [self.asked_s, *self.came_s]
        return [(end, end - start) for start, end in zip(before, self.came_s, strict=False)]

    def longest_pause_s(self, since_s: float) -> float:
        """Of those that ended after ``since_s``."""
        return max((length for end, length in self.pauses if end > since_s), default=0.0)

    def next_token_s(self, since_s: float) -> float:
        """From ``since_s`` to the next token or the end."""
        return min(came for came in self.came_s if came > since_s) - since_s


class Clients:
    """Asks the gateways of a fleet, over one protocol, or over HTTP and gRPC in turns."""

    def __init__(self, fleet: Fleet, protocol: str = "") -> None:
        self._fleet = fleet
        self._protocol = protocol
        self._http = httpx.AsyncClient(timeout=120)
        self._channels: dict[str, grpc.aio.Channel] = {}
        self._tasks: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._http.aclose()
        for channel in self._channels.values():
            await channel.close(None)

    def start(self, prompts: Sequence[str], num_tokens: int) -> list[Stream]:
        """Begin a stream for each prompt, at the gateways in turns."""
        names = [name for name in self._fleet.gateways if self._fleet.gateway(name).runs]
        streams = []
        for index, prompt in enumerate(prompts):
            stream = Stream(prompt, num_tokens, names[index // 2 % len(names)])
            protocol = self._protocol or ("http", "grpc")[index % 2]
            run = self._by_http if protocol == "http" else self._by_grpc
            self._tasks.append(asyncio.create_task(run(stream)))
            streams.append(stream)
        return streams

    async def finish(self) -> None:
        """Wait for the end of all streams."""
        tasks, self._tasks = self._tasks, []
        await asyncio.gather(*tasks)

    @property
    def num_running(self) -> int:
        return sum(not task.done() for task in self._tasks)

    async def _by_http(self, stream: Stream) -> None:
        pipeline = self._fleet.gateways[stream.gateway]
        url = f"http://127.0.0.1:{pipeline.gateway.http_port}/v1/completions"
        asked: dict[str, Any] = {
            "model": pipeline.model_name,
            "prompt": stream.prompt,
            "max_tokens": stream.num_tokens,
            "temperature": 0,
            "stream": True,
        }
        stream.asked_s = time.monotonic()
        try:
            async with self._http.stream("POST", url, json=asked) as response:
                if response.status_code != httpx.codes.OK:
                    stream.ends.append(f"status {response.status_code}")
                async for line in response.aiter_lines():
                    self._on_line(stream, line)
        except httpx.TransportError:
            stream.ends.append(CUT)
        if not stream.ends:
            stream.ends.append(CUT)
        stream.tick()

    @staticmethod
    def _on_line(stream: Stream, line: str) -> None:
        if line.startswith("event: error"):
            stream.ends.append("error")
        elif line == "data: [DONE]":
            stream.ends.append(DONE)
        elif line.startswith("data: ") and not stream.ends:
            choices = json.loads(line.removeprefix("data: "))["choices"]
            if choices and choices[0]["text"]:
                stream.text += choices[0]["text"]
                stream.tick()

    async def _by_grpc(self, stream: Stream) -> None:
        address = f"127.0.0.1:{self._fleet.gateways[stream.gateway].gateway.grpc_port}"
        if address not in self._channels:
            self._channels[address] = grpc.aio.insecure_channel(address)
        stub: Any = pipespec_pb2_grpc.GenerationStub(self._channels[address])
        request = pb.GenerateRequest(
            text=stream.prompt,
            max_tokens=stream.num_tokens,
            sampling=pb.Sampling(temperature=0),
            ignore_eos=True,
        )
        stream.asked_s = time.monotonic()
        try:
            async for response in stub.Generate(request, timeout=120, wait_for_ready=True):
                if response.WhichOneof("event") == "completed":
                    stream.ends.append(DONE)
                    continue
                stream.num_gaps += response.delta.start != len(stream.ids)
                stream.ids += response.delta.token_ids
                stream.text += response.delta.text
                if response.delta.token_ids:
                    stream.tick()
            if not stream.ends:
                stream.ends.append(CUT)
        except grpc.aio.AioRpcError as error:
            stream.ends.append(f"error {error.code().name}")
        stream.tick()
