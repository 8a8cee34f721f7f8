"""A running chain as its attackers and its honest clients see it."""

from __future__ import annotations

from dataclasses import dataclass

import httpx

from e2e.detached import Detached
from pipespec.client import Client
from pipespec.emulation.chain import language_of
from pipespec.emulation.vocabulary import byte_tokenizer

PROMPT = "Once upon a time"


@dataclass(frozen=True)
class Site:
    """Where everything listens."""

    running: Detached

    @property
    def http(self) -> str:
        """Base of the HTTP API."""
        return self.running.http.removesuffix("/v1")

    @property
    def grpc(self) -> str:
        """Address of gRPC."""
        return self.running.url("grpc").removeprefix("grpc://")

    @property
    def zmq(self) -> str:
        """Address of the ZeroMQ edge."""
        return self.running.url("zmq").replace("zmq://", "tcp://")

    def expected(self, num_tokens: int, prompt: str = PROMPT) -> str:
        """The target's own text, computed without any service."""
        tokenizer = byte_tokenizer()
        language = language_of(self.running.pipeline.stages)
        return str(tokenizer.decode(language.target_text(tokenizer.encode(prompt).ids, num_tokens)))

    def metric(self, name: str, *, at: str = "gateway") -> float:
        """A metric of the gateway, or of ``stage 0`` or ``stage 1``, with its labels; 0 before it exists."""
        if at == "gateway":
            port = self.running.pipeline.gateway.metrics_port
        else:
            port = self.running.stage_ports[int(at.removeprefix("stage "))]
        lines = httpx.get(f"http://127.0.0.1:{port}/metrics", timeout=30).text.splitlines()
        named = [line for line in lines if line.partition(" ")[0] == name]
        return sum(float(line.rpartition(" ")[2]) for line in named)

    def logs(self) -> str:
        """Everything that all processes wrote so far."""
        return "".join(log.read_text() for log in (self.running.folder / "logs").glob("*.log"))

    def is_unharmed(self) -> None:
        """Every process runs, none has failed at anything, and a client gets the target's text."""
        with Client(self.running.url("grpc")) as client:
            assert client.generate(PROMPT, max_tokens=24, temperature=0).text == self.expected(24)
        assert "Traceback" not in self.logs()
