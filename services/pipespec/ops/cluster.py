"""The parts of the pipeline file that matter in a cluster: where the pods are, and how stages are scaled."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Self

from pydantic import Field, model_validator

from pipespec.ops.settings import Port, Settings

DnsLabel = Annotated[str, Field(pattern=r"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$")]


class KubernetesSettings(Settings):
    """Where the services find themselves and each other in a cluster."""

    namespace: DnsLabel
    """Of all of them."""
    workloads: tuple[DnsLabel, ...] = Field(min_length=1, max_length=16)
    """StatefulSet of every stage, from the smallest to the target; its headless Service has the same name, and a replica
    has the name of its pod."""
    watch: bool = False
    """Gateways watch the stages' EndpointSlices: a pod that is going away gets no session even before it says so itself."""
    lease: DnsLabel = "pipespec-autoscaler"
    """That autoscalers hold while they lead."""


class ScalingSettings(Settings):
    """How far the autoscaler may go with one stage."""

    min_replicas: int = Field(default=1, ge=0, le=1000)
    """0 lets it switch off a draft that does not pay under the present load; the target has at least 1."""
    max_replicas: int = Field(ge=1, le=1000)
    gpus: float = Field(default=1.0, ge=0, le=1000, allow_inf_nan=False)
    """That one replica occupies; fractions for cheaper ones. The sum over all stages is what is kept small."""

    @model_validator(mode="after")
    def _there_is_a_range(self) -> Self:
        if self.min_replicas > self.max_replicas:
            raise ValueError(f"min_replicas is {self.min_replicas}, above max_replicas, {self.max_replicas}")
        return self


class AutoscalerSettings(Settings):
    """What the autoscaler aims at, and how fast it moves."""

    goal_ms: float = Field(gt=0, le=3_600_000, allow_inf_nan=False)
    """Per token, that nine of ten streams should keep."""
    profile: Path | None = None
    """What ``pipespec profile`` wrote of this pipeline; not needed where all stages are emulated."""
    interval_s: float = Field(default=15.0, gt=0, le=3600)
    """Between decisions."""
    headroom: float = Field(default=0.25, ge=0, le=10)
    """Sessions more than there are, as a fraction, that there should be room for."""
    start_s: float = Field(default=120.0, ge=0, le=3600)
    """From asking for a replica until it serves. Growth of the demand is carried on for so long; 0 forecasts nothing."""
    up_wait_s: float = Field(default=0.0, ge=0, le=3600)
    """More replicas are asked for when they have been needed for so long."""
    down_wait_s: float = Field(default=300.0, ge=0, le=86_400)
    """Replicas are given up when they have not been needed for so long."""
    surge_wait_s: float = Field(default=1800.0, ge=0, le=86_400)
    """Replicas that a surge has needed are given up when there has been none for so long: one that came may come again,
    and is over before replicas are there."""
    dry_run: bool = False
    """Decides, logs and counts, and changes nothing."""
    host: str = "127.0.0.1"
    """Address that its metrics port binds."""
    metrics_port: Port = 0
