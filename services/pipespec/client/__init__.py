"""The library that users import: one API over gRPC (``grpc://host:port``) and ZeroMQ (``zmq://host:port``).

    with Client("grpc://127.0.0.1:8001") as client:
        for chunk in client.stream("Once upon a time", max_tokens=64):
            print(chunk.text, end="")

``AsyncClient`` is the same with ``await``.
"""

from pipespec.client.async_client import AsyncClient, AsyncStream
from pipespec.client.client import Client, Stream
from pipespec.client.completion import Chunk, Completion, StageReport, Usage
from pipespec.client.curve import Curve
from pipespec.client.request import Options

__all__ = [
    "AsyncClient",
    "AsyncStream",
    "Chunk",
    "Client",
    "Completion",
    "Curve",
    "Options",
    "StageReport",
    "Stream",
    "Usage",
]
