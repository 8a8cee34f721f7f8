"""Pipelines to scale, and snapshots of their fleets."""

from __future__ import annotations

from typing import Any

from pipespec.ops.pipeline import Pipeline
from pipespec.planner.scaling.load import FleetLoad, StageUse
from planner.chains import Latency, pipeline, stage

TARGET: Latency = {1: 40.0, 64: 60.0}
DRAFT: Latency = {1: 5.0, 64: 12.0}


def scaled(
    latency_ms: Latency,
    agreement: float | None = None,
    *,
    gpus: float = 1,
    least: int = 1,
    most: int = 16,
    **settings: Any,
) -> dict[str, Any]:
    """A stage that may be scaled; a further session costs 2 ms, unless said otherwise."""
    scaling = {"min_replicas": least, "max_replicas": most, "gpus": gpus}
    return stage(latency_ms, agreement, scaling=scaling, **{"session_ms": 2.0, **settings})


def pair(**draft: Any) -> Pipeline:
    """A draft that may be switched off, and its target of two GPUs."""
    return pipeline(scaled(DRAFT, 0.9, **{"least": 0, "lookahead": 8, **draft}), scaled(TARGET, gpus=2))


def load(
    now_s: float,
    asked: tuple[int, ...],
    sessions: int,
    *,
    ready: tuple[int, ...] | None = None,
    draining: tuple[int, ...] | None = None,
    refused: int = 0,
    ms: float | None = None,
    agreement: float | None = None,
) -> FleetLoad:
    """A fleet that has what it was asked for, unless said otherwise."""
    uses = zip(asked, ready or asked, draining or (0,) * len(asked), strict=True)
    return FleetLoad(
        now_s,
        tuple(
            StageUse(are_ready, number, going, sessions if are_ready else 0, 1.0, agreement if rank else None)
            for rank, (number, are_ready, going) in enumerate(uses)
        ),
        sessions,
        refused,
        ms,
    )
