"""The pipeline as the planner reads it: the settings that are served with, the speeds and agreements that were measured."""

from __future__ import annotations

from pathlib import Path

from pipespec.ops.errors import SettingsError
from pipespec.ops.pipeline import Pipeline, StageKind, StageSettings, load_pipeline


def profiled(pipeline: Pipeline, profile: Path | None) -> Pipeline:
    """``pipeline`` with all stages emulated, as ``profile`` has measured them, or as they are where they are emulated.

    Raises:
        SettingsError: there is no profile and one is needed, it cannot be read, or it is of another pipeline.
    """
    if profile is None:
        for rank, stage in enumerate(pipeline.stages):
            if stage.kind is not StageKind.EMULATED:
                raise SettingsError(
                    f"autoscaler.profile is not set, and stages[{rank}] is of kind {stage.kind.value!r}: its speed is not "
                    "known; measure the pipeline with `pipespec profile FILE --out profile.yaml` and set it"
                )
        return pipeline
    measured = load_pipeline(profile).stages
    if len(measured) != len(pipeline.stages):
        raise SettingsError(
            f"autoscaler.profile: {profile} has {len(measured)} stage(s), the pipeline has {len(pipeline.stages)}; "
            "profile this pipeline again"
        )
    stages = [
        _emulated(stage, measured[rank], where=f"{profile}: stages[{rank}]")
        for rank, stage in enumerate(pipeline.stages)
    ]
    return pipeline.model_copy(update={"stages": tuple(stages)})


def _emulated(stage: StageSettings, measured: StageSettings, *, where: str) -> StageSettings:
    if measured.emulation is None:
        raise SettingsError(
            f"autoscaler.profile: {where} is of kind {measured.kind.value!r}, not 'emulated'; "
            "it must be what `pipespec profile` wrote, not the pipeline itself"
        )
    name, reference = measured.emulation.stands_for, stage.model or stage.kind.value
    if name and stage.kind is not StageKind.EMULATED and name not in reference:
        raise SettingsError(
            f"autoscaler.profile: {where} stands for {name!r}, the pipeline serves {reference!r}; "
            "profile this pipeline again"
        )
    return stage.model_copy(
        update={"kind": StageKind.EMULATED, "model": None, "emulation": measured.emulation}
    )
