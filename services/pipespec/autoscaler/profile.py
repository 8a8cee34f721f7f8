"""The pipeline as the planner reads it: the settings that are served with, the speeds and agreements that were measured."""

from __future__ import annotations

from pathlib import Path

from pipespec.ops.errors import SettingsError
from pipespec.ops.pipeline import Pipeline, StageKind, load_pipeline
from pipespec.planner.variants import profiled


def planned(pipeline: Pipeline, profile: Path | None) -> Pipeline:
    """``pipeline`` with all stages emulated, as ``profile`` has measured them, or as they are where they are emulated.

    Raises:
        SettingsError: there is no profile and one is needed, it cannot be read, or it is of another pipeline.
    """
    if profile is not None:
        measured = load_pipeline(profile)
        known = profiled(pipeline, measured)
        _check_names(pipeline, measured, profile)
        return known
    for rank, stage in enumerate(pipeline.stages):
        if stage.kind is not StageKind.EMULATED:
            raise SettingsError(
                f"autoscaler.profile is not set, and stages[{rank}] is of kind {stage.kind.value!r}: its speed is not "
                "known; measure the pipeline with `pipespec profile FILE --out profile.yaml` and set it"
            )
    return pipeline


def _check_names(pipeline: Pipeline, measured: Pipeline, profile: Path) -> None:
    """As many stages as the pipeline has may still be others."""
    for rank, (stage, known) in enumerate(zip(pipeline.stages, measured.stages, strict=True)):
        name = known.emulation.stands_for if known.emulation else None
        reference = stage.model or stage.kind.value
        if name and stage.kind is not StageKind.EMULATED and name not in reference:
            raise SettingsError(
                f"autoscaler.profile: {profile}: stages[{rank}] stands for {name!r}, the pipeline serves {reference!r}; "
                "measure this one with `pipespec profile`"
            )
