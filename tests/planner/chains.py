"""Emulated pipelines for the planner's tests."""

from __future__ import annotations

from typing import Any

from pipespec.ops.pipeline import Pipeline, parse_pipeline

Latency = dict[int, float]


def stage(latency_ms: Latency, agreement: float | None = None, **settings: Any) -> dict[str, Any]:
    """One stage of a pipeline file; the target has no agreement."""
    emulation: dict[str, Any] = {"latency_ms": latency_ms}
    for key in ("session_ms", "agreement_beyond", "stands_for"):
        if key in settings:
            emulation[key] = settings.pop(key)
    if agreement is not None:
        emulation["agreement"] = agreement
    return {"kind": "emulated", "emulation": emulation, **settings}


def pipeline(*stages: dict[str, Any]) -> Pipeline:
    """A pipeline of them."""
    return parse_pipeline({"stages": list(stages)}, source="test")
