"""The command line in this process, and a gateway with a scripted pipeline for it to talk to."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from gateway.conftest import backend, model_folder, resume, settings, text
from gateway.scripted_backend import ScriptedBackend
from pipespec.gateway.grpc import serve_grpc
from pipespec.gateway.resume import ResumeService
from pipespec.gateway.text import TextModel
from pipespec.ops.pipeline import GatewaySettings

__all__ = ["backend", "model_folder", "resume", "settings", "text"]


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache folder, and with it no running pipelines."""
    folder = tmp_path / "cache"
    monkeypatch.setenv("PIPESPEC_CACHE", str(folder))
    return folder


@pytest.fixture
async def url(
    backend: ScriptedBackend, text: TextModel, settings: GatewaySettings, resume: ResumeService
) -> AsyncIterator[str]:
    """A running gateway's address."""
    server = await serve_grpc(
        backend=backend,
        text=text,
        settings=settings,
        model_name="small",
        host="127.0.0.1",
        port=0,
        resume=resume,
    )
    yield f"grpc://127.0.0.1:{server.port}"
    await server.stop(grace_s=0)
