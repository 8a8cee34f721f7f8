"""``pipespec serve stage`` that computes otherwise than it says: an emulated target of another seed under the first one's digest.

As two GPUs whose arithmetic differs: nobody can tell it from the replica that it stands beside but by its words.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any
from unittest.mock import patch

from pipespec.cli.__main__ import main
from pipespec.engine.load import LoadedEngine, load_engine
from pipespec.ops.pipeline import StageSettings
from pipespec.stage import service

OTHER_SEED = 99


def other(settings: StageSettings) -> StageSettings:
    """The same stage with other words."""
    assert settings.emulation is not None
    emulation = settings.emulation.model_copy(update={"seed": OTHER_SEED})
    return settings.model_copy(update={"emulation": emulation})


def _load(settings: StageSettings, *, later: Sequence[StageSettings] = (), **more: Any) -> LoadedEngine:
    told = load_engine(settings, later=later, **more)
    done = load_engine(other(settings), later=later, **more)
    return replace(done, weights=told.weights)


if __name__ == "__main__":
    with patch.object(service, "load_engine", _load):
        main()
