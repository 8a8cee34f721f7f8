"""From what was measured of a running pipeline to a pipeline file that emulates it, for `plan` and `up`."""

from __future__ import annotations

from typing import Any

from pipespec.observer.measurement import Measurement, StageMeasurement
from pipespec.ops.errors import Unavailable
from pipespec.ops.pipeline import Pipeline, StageKind, StageSettings
from pipespec.protocol.ids import Rank

KEPT = ("lookahead", "wait_for", "max_sessions", "max_batch", "prefill_chunk", "step_tokens", "replicas")
"""Settings of a stage that mean the same when it is emulated; those that are not the default are written."""


def profile_document(pipeline: Pipeline, measurement: Measurement) -> dict[str, Any]:
    """A pipeline file of emulated stages with the measured curves and agreements.

    Raises:
        Unavailable: too few steps of a stage were heard of.
    """
    stages = [_stage(pipeline, rank, measurement) for rank in range(len(pipeline.stages))]
    return {"name": pipeline.name, "stages": stages}


def _stage(pipeline: Pipeline, rank: int, measurement: Measurement) -> dict[str, Any]:
    settings = pipeline.stages[rank]
    curve = measurement.stages[Rank(rank)].curve()
    if curve is None:
        raise Unavailable(
            f"stage {rank}: too few steps of single sessions for a latency curve; profile with more --tokens",
            code="too_little_measured",
        )
    emulation: dict[str, Any] = {"stands_for": _name(settings), "latency_ms": dict(curve.points)}
    if curve.session_ms:
        emulation["session_ms"] = curve.session_ms
    if rank < len(pipeline.stages) - 1:
        emulation["agreement"] = _agreement(settings, rank, measurement.stages[Rank(rank + 1)])
    kept = {key: getattr(settings, key) for key in KEPT if key in settings.model_fields_set}
    return {"kind": StageKind.EMULATED.value, **kept, "emulation": emulation}


def _agreement(settings: StageSettings, rank: int, checker: StageMeasurement) -> float:
    is_model_free = settings.kind is StageKind.SUFFIX
    agreement = checker.agreement_with_silence if is_model_free else checker.agreement
    if agreement is None:
        raise Unavailable(
            f"stage {rank + 1} checked nothing of stage {rank}: nothing is known of their agreement; profile with more "
            "--tokens, or with prompts that the draft can guess",
            code="too_little_measured",
        )
    return round(agreement, 4)


def _name(settings: StageSettings) -> str:
    if settings.emulation is not None and settings.emulation.stands_for:
        return settings.emulation.stands_for
    reference = settings.model or settings.kind.value
    return reference.rstrip("/").split("/")[-1].split(":")[-1][:64]
