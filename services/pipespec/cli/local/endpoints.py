"""What a person needs to know of a pipeline that is ready: where it listens, and a first request."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

from rich.console import Console
from rich.table import Table

from pipespec.cli.local.layout import Layout, url_host
from pipespec.ops.pipeline import Pipeline


def http_url(pipeline: Pipeline) -> str:
    """Base of the OpenAI-compatible API."""
    scheme = "https" if pipeline.gateway.has_tls else "http"
    return f"{scheme}://{url_host(pipeline.gateway.host)}:{pipeline.gateway.http_port}/v1"


def grpc_url(pipeline: Pipeline) -> str:
    """Where the client library finds the gateway."""
    scheme = "grpcs" if pipeline.gateway.has_tls else "grpc"
    return f"{scheme}://{url_host(pipeline.gateway.host)}:{pipeline.gateway.grpc_port}"


def zmq_url(pipeline: Pipeline) -> str:
    """Where the client library finds the gateway by ZeroMQ."""
    return f"zmq://{url_host(pipeline.gateway.host)}:{pipeline.gateway.zmq_port}"


def show_endpoints(layout: Layout, logs: Path, *, stop: str) -> None:
    """Print the endpoints and an example on stdout; ``stop`` says how to end the pipeline."""
    pipeline = layout.pipeline
    table = Table(box=None, show_header=False, pad_edge=False)
    for name, where in _rows(layout, logs):
        table.add_row(name, where)
    console = Console(highlight=False, soft_wrap=True, markup=False)
    console.print(f"pipeline {pipeline.name} is ready and serves {pipeline.model_name}\n")
    console.print(table)
    console.print(f"\nTry it:\n  {example(pipeline)}\n\nStop it: {stop}")


def example(pipeline: Pipeline) -> str:
    """A first request, for a shell."""
    body = {
        "model": pipeline.model_name,
        "stream": True,
        "messages": [{"role": "user", "content": "Why is the sky blue?"}],
    }
    key = '-H "Authorization: Bearer $PIPESPEC_API_KEY" ' if pipeline.gateway.api_keys else ""
    return (
        f"curl -N {http_url(pipeline)}/chat/completions -H 'Content-Type: application/json' {key}"
        f"-d '{json.dumps(body)}'"
    )


def _rows(layout: Layout, logs: Path) -> Iterator[tuple[str, str]]:
    pipeline = layout.pipeline
    yield "HTTP (OpenAI)", http_url(pipeline)
    yield "gRPC", grpc_url(pipeline)
    yield "ZeroMQ", zmq_url(pipeline)
    yield "metrics: gateway", _metrics(pipeline.gateway.host, pipeline.gateway.metrics_port)
    for rank, ports in enumerate(layout.stage_ports):
        for n, port in enumerate(ports):
            yield f"metrics: stage {rank} r{n}", _metrics(pipeline.stage_host, port)
    for n, broker in enumerate(pipeline.brokers):
        yield f"metrics: broker {n}", _metrics(broker.host, broker.metrics_port)
    yield "logs", str(logs)


def _metrics(host: str, port: int) -> str:
    return f"http://{url_host(host)}:{port}/metrics"
