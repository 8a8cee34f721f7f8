"""What all tests share: Ctrl-C as a terminal sends it, and the embedded model, fetched and converted once."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from pipespec.models.fetch import fetch

signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job ignores it; tests send it


@pytest.fixture(scope="session")
def embedded_model() -> Path:
    """Folder of SmolLM2-135M-Instruct, ready to load."""
    return fetch("embedded:smollm2-135m-instruct")
