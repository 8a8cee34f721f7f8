"""``pipespec serve stage`` of another version: its tokenizer's digest is not the chain's."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any
from unittest.mock import patch

from pipespec.cli.__main__ import main
from pipespec.engine.load import LoadedEngine, load_engine
from pipespec.ops.pipeline import StageSettings
from pipespec.stage import service

TOKENIZER = bytes(range(16))


def _load(settings: StageSettings, *, later: Sequence[StageSettings] = (), **more: Any) -> LoadedEngine:
    return replace(load_engine(settings, later=later, **more), tokenizer=TOKENIZER)


if __name__ == "__main__":
    with patch.object(service, "load_engine", _load):
        main()
