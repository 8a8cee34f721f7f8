"""From the settings of emulated stages to their language and their curves.

The engine and the planner read both through here, so that a plan is about what would run.
"""

from __future__ import annotations

from collections.abc import Sequence

from pipespec.emulation import vocabulary
from pipespec.emulation.curve import LatencyCurve
from pipespec.emulation.words import HashLanguage
from pipespec.ops.emulation import EmulationSettings
from pipespec.ops.errors import SettingsError
from pipespec.ops.pipeline import StageSettings


def emulation_of(stage: StageSettings) -> EmulationSettings:
    """The emulation block of a stage.

    Raises:
        SettingsError: it has none.
    """
    if stage.emulation is None:
        raise SettingsError(f"expected a stage of kind 'emulated', got one of kind {stage.kind.value!r}")
    return stage.emulation


def curve_of(stage: StageSettings) -> LatencyCurve:
    """How long the steps of an emulated stage take."""
    emulation = emulation_of(stage)
    return LatencyCurve(tuple(sorted(emulation.latency_ms.items())), emulation.session_ms)


def language_of(stages: Sequence[StageSettings]) -> HashLanguage:
    """What an emulated chain says, or the part of one that ends with its target; rank 0 is the first of ``stages``."""
    emulations = [emulation_of(stage) for stage in stages]
    agreements = [emulation.agreement for emulation in emulations if emulation.agreement is not None]
    return vocabulary.language(emulations[-1].seed or 0, agreements)


def name_of(stage: StageSettings, rank: int) -> str:
    """What an emulated stage stands for, or its place in its pipeline."""
    return emulation_of(stage).stands_for or f"stage {rank}"
