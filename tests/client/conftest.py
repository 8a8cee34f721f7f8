"""Both servers over one scripted pipeline."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from gateway.conftest import backend, model_folder, resume, settings, text
from gateway.scripted_backend import ScriptedBackend
from pipespec.gateway.grpc import serve_grpc
from pipespec.gateway.resume import ResumeService
from pipespec.gateway.text import TextModel
from pipespec.gateway.zmq import serve_zmq
from pipespec.ops.pipeline import GatewaySettings

__all__ = ["backend", "model_folder", "resume", "settings", "text"]


@pytest.fixture(params=["grpc", "zmq"])
async def url(
    request: pytest.FixtureRequest,
    backend: ScriptedBackend,
    text: TextModel,
    settings: GatewaySettings,
    resume: ResumeService,
) -> AsyncIterator[str]:
    """A running gateway's address, once for each transport."""
    serve = {"grpc": serve_grpc, "zmq": serve_zmq}[request.param]
    server = await serve(  # type: ignore[operator]  # two functions of one signature
        backend=backend,
        text=text,
        settings=settings,
        model_name="small",
        host="127.0.0.1",
        port=0,
        resume=resume,
    )
    yield f"{request.param}://127.0.0.1:{server.port}"
    await server.stop(grace_s=0)
