"""The pipeline file: one YAML document that describes a whole chain and how it is served.

Every service reads the same file. Unknown or bad keys stop the start: the message names the key, its value and
what is allowed. Nothing else reads the environment, and nothing changes a setting after the start.
Units are in the names: ``_s`` seconds, ``_ms`` milliseconds; lengths are in tokens.
"""

from __future__ import annotations

import reprlib
from enum import StrEnum
from pathlib import Path
from typing import Any, Self

import yaml
from pydantic import BaseModel, Field, ValidationError, model_validator

from pipespec.ops.admission import AdmissionSettings
from pipespec.ops.bus_security import MAX_BROKERS, BusSettings, check_binds, check_bus, check_zmq_edge
from pipespec.ops.cluster import AutoscalerSettings, KubernetesSettings, ScalingSettings
from pipespec.ops.edge_security import EdgeSecuritySettings
from pipespec.ops.emulation import EmulationSettings, check_emulation
from pipespec.ops.errors import SettingsError
from pipespec.ops.resume import ResumeSettings
from pipespec.ops.settings import Port, Settings, UniqueKeys


class StageKind(StrEnum):
    """What a stage runs."""

    TRANSFORMERS = "transformers"
    """A Hugging Face causal language model."""
    SUFFIX = "suffix"
    """A draft without a model: continues the longest earlier match of the session's own text."""
    EMULATED = "emulated"
    """Neither model nor text: takes the time and has the agreement that ``emulation`` says."""


class StageSettings(Settings):
    """One stage of the chain."""

    kind: StageKind = StageKind.TRANSFORMERS
    """What it runs."""
    model: str | None = None
    """Hub id, local folder, local ``.gguf`` file or ``embedded:smollm2-135m-instruct``; for ``transformers`` only."""
    revision: str | None = None
    """Commit or tag of a hub model; pin it where the output must never change."""
    device: str = Field(default="auto", pattern=r"^(auto|cpu|cuda(:[0-9]+)?)$")
    """``cpu``, ``cuda``, ``cuda:1``, …; ``auto`` takes a GPU where there is one."""
    dtype: str = Field(default="auto", pattern="^(auto|float32|bfloat16|float16)$")
    """Of the weights; ``auto`` is float32 on CPU (exact), the checkpoint's own on GPU."""
    tensor_parallel: int = Field(default=1, ge=1, le=64)
    """Processes that share one replica's model, on one machine, each with its own GPU; 1 does not split it."""
    threads: int = Field(default=1, ge=1, le=256)
    """Compute threads; two spinning thread pools on the same cores ruin each other, so one by default."""
    lookahead: int = Field(default=8, ge=1, le=256)
    """Tokens that this stage may be ahead of the next one; unused by the target."""
    wait_for: int = Field(default=0, ge=0, le=256)
    """Candidates of the earlier stage that a step waits for; 0 never waits. As many as the earlier stage's ``lookahead``
    make synchronous speculative decoding, to compare with."""
    wait_ms: float = Field(default=1000.0, gt=0, le=60_000)
    """A step waits for so long at most; looked at twice per heartbeat."""
    min_match: int = Field(default=3, ge=1, le=64)
    """``suffix`` only: shortest earlier match that is worth a guess."""
    emulation: EmulationSettings | None = None
    """``emulated`` only, and needed there."""
    max_sessions: int = Field(default=64, ge=1, le=100_000)
    """Sessions held at once by one replica; without one that has room, the gateway answers 429."""
    prefill_chunk: int = Field(default=256, ge=1, le=1_000_000)
    """Prompt tokens fed in one step; smaller keeps the loop responsive, larger is faster."""
    step_tokens: int = Field(default=512, ge=1, le=1_000_000)
    """Tokens of all sessions in one step; sessions that generate come first, prompts get the rest."""
    max_batch: int = Field(default=64, ge=1, le=4096)
    """Sessions in one step."""
    cache_gib: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    """Memory for keys and values; none: nearly all that is free on a GPU, an eighth of it on CPU."""
    replicas: int = Field(default=1, ge=1, le=64)
    """Processes of this stage under ``pipespec up``."""
    scaling: ScalingSettings | None = None
    """Lets the autoscaler choose the replicas in a cluster; none leaves them alone."""
    drain_timeout_s: float = Field(default=3.0, ge=0, le=3600)
    """After SIGTERM, time for gateways to move its sessions; where no other replica can take them, for them to end."""

    @model_validator(mode="after")
    def _model_where_needed(self) -> Self:
        if self.kind is StageKind.TRANSFORMERS and not self.model:
            raise ValueError("a stage of kind 'transformers' needs 'model' (hub id, folder or .gguf file)")
        if self.kind is not StageKind.TRANSFORMERS and self.model:
            raise ValueError(f"a stage of kind {self.kind.value!r} has no model; remove 'model'")
        return self

    @model_validator(mode="after")
    def _emulation_where_needed(self) -> Self:
        if self.kind is StageKind.EMULATED and self.emulation is None:
            raise ValueError(
                "a stage of kind 'emulated' needs 'emulation' with 'latency_ms', such as {1: 20, 8: 25}"
            )
        if self.kind is not StageKind.EMULATED and self.emulation is not None:
            raise ValueError(f"a stage of kind {self.kind.value!r} is not emulated; remove 'emulation'")
        return self

    @model_validator(mode="after")
    def _ranks_have_devices(self) -> Self:
        if self.tensor_parallel > 1 and self.kind is not StageKind.TRANSFORMERS:
            raise ValueError(
                f"a stage of kind {self.kind.value!r} has no model to split; remove 'tensor_parallel'"
            )
        if self.tensor_parallel > 1 and ":" in self.device:
            raise ValueError(
                f"'tensor_parallel' {self.tensor_parallel} takes that many GPUs, from the first on, not {self.device!r}; "
                "say 'cuda' and choose with CUDA_VISIBLE_DEVICES"
            )
        return self


class BrokerSettings(Settings):
    """Where one broker listens. Processes publish to ``publish_port`` and subscribe at ``subscribe_port``."""

    host: str = Field(default="127.0.0.1", pattern=r"^[A-Za-z0-9._:-]+$")
    """Address that others connect to; a DNS name will do."""
    bind: str | None = Field(default=None, pattern=r"^[0-9a-fA-F.:]+$")
    """Address that it binds, where that is not ``host``: ``0.0.0.0`` in a pod, behind a name."""
    publish_port: Port = 0
    subscribe_port: Port = 0
    metrics_port: Port = 0


class GatewaySettings(AdmissionSettings, EdgeSecuritySettings, ResumeSettings):
    """Where clients come in, and what they may ask."""

    http_port: Port = 8000
    grpc_port: Port = 8001
    zmq_port: Port = 8002
    metrics_port: Port = 0
    zmq_keys: Path | None = None
    """Folder with the gateway's CURVE key for ZeroMQ and the public keys of its clients, who have the rights of the
    ``api_keys`` of their names where there are any; none: in plain, on loopback and without ``api_keys``."""
    zmq_insecure: bool = False
    """ZeroMQ in plain and for anybody, also outside loopback and beside ``api_keys``."""
    grpc_reflection: bool = False
    """Lets tools such as grpcurl list the API; ``pipespec up`` turns it on."""
    model_name: str | None = None
    """What clients call the model; default: the last part of the target's reference."""
    default_max_tokens: int = Field(default=512, ge=1)
    """Of requests that name none, bounded by what the context leaves."""
    request_timeout_s: float = Field(default=300.0, gt=0, le=3600)
    """A request that takes longer ends with an explicit error."""
    drain_delay_s: float = Field(default=0.0, ge=0, le=600)
    """After SIGTERM it is not ready, but takes requests for so long: load balancers need time to hear of it."""
    drain_timeout_s: float = Field(default=10.0, ge=0, le=3600)
    """Then running requests may go on for so long; what is left then ends with an explicit error."""


class TimerSettings(Settings):
    """The protocol's timers; the defaults are those of a LAN."""

    heartbeat_ms: int = Field(default=100, ge=10, le=10_000)
    """Between heartbeats and between repeated announcements of a quiet session."""
    dead_ms: int = Field(default=2000, ge=20, le=60_000)
    """A replica not heard of for this long takes no more sessions and loses those that it has."""
    stall_ms: int = Field(default=10_000, ge=50, le=600_000)
    """A session without a commit for this long gets another target replica, where there is one; each time it doubles."""
    prefill_ms_per_token: float = Field(default=20.0, ge=0, le=10_000)
    """Added to ``stall_ms`` per token that a new target has to read first; generous, because a CPU takes its time."""
    hung_ms: int = Field(default=15_000, ge=100, le=600_000)
    """A replica whose loop has not turned for this long gets no work although it beats; longer than any one step."""
    lost_ms: int = Field(default=30_000, ge=100, le=600_000)
    """Without any usable target for this long, sessions end with an explicit error."""
    lease_ms: int = Field(default=10_000, ge=100, le=600_000)
    """A stage frees a session that no ``state`` names for this long."""
    sync_ms: int = Field(default=25, ge=1, le=10_000)
    """Between two ``sync`` requests for one session."""

    @model_validator(mode="after")
    def _a_living_replica_is_not_dead(self) -> Self:
        if self.dead_ms < 2 * self.heartbeat_ms:
            raise ValueError(
                f"'dead_ms' is {self.dead_ms}, less than two heartbeats of {self.heartbeat_ms} ms: "
                "one late heartbeat would count as a death"
            )
        return self


class LogSettings(Settings):
    """How services log."""

    level: str = Field(default="info", pattern="^(debug|info|warning|error)$")
    format: str = Field(default="auto", pattern="^(auto|console|json)$")
    """``auto``: console on a terminal, JSON elsewhere."""


class Pipeline(Settings):
    """The whole file. ``stages`` go from the smallest to the target."""

    name: str = Field(default="pipespec", pattern="^[a-z0-9]([a-z0-9-]{0,38}[a-z0-9])?$")
    """Names the run for ``pipespec down``; a DNS label."""
    stages: tuple[StageSettings, ...] = Field(min_length=1, max_length=16)
    brokers: tuple[BrokerSettings, ...] = Field(
        default=(BrokerSettings(),), min_length=1, max_length=MAX_BROKERS
    )
    """Everyone connects to all of them; receivers drop what they already have."""
    bus: BusSettings = BusSettings()
    """Keys of the bus; needed where a broker is not on loopback."""
    gateway: GatewaySettings = GatewaySettings()
    stage_metrics_port: Port = 0
    """First port of the stages' metrics; replica n of all takes this plus n. 0: a free one each."""
    stage_host: str = "127.0.0.1"
    """Address that the stages' metrics ports bind."""
    bind_any_address: bool = False
    """Lets ports bind 0.0.0.0 or ::; for pods, whose network is their own."""
    timers: TimerSettings = TimerSettings()
    log: LogSettings = LogSettings()
    kubernetes: KubernetesSettings | None = None
    """Set where the services run as pods."""
    autoscaler: AutoscalerSettings | None = None
    """Needed by ``pipespec serve autoscaler`` alone."""

    @model_validator(mode="after")
    def _chain_makes_sense(self) -> Self:
        if self.stages[-1].kind is StageKind.SUFFIX:
            raise ValueError("the last stage is the target and needs a model; 'suffix' can only be first")
        for rank, stage in enumerate(self.stages[1:], start=1):
            if stage.kind is StageKind.SUFFIX:
                raise ValueError(f"stages[{rank}] is 'suffix', which can only be first: it checks nothing")
        return self

    @model_validator(mode="after")
    def _who_waits_is_served(self) -> Self:
        for rank, (earlier, stage) in enumerate(zip(self.stages, self.stages[1:], strict=False), start=1):
            if stage.wait_for > earlier.lookahead:
                raise ValueError(
                    f"stages[{rank}].wait_for is {stage.wait_for}, but stages[{rank - 1}] is at most "
                    f"{earlier.lookahead} tokens ahead ('lookahead'): every step would wait for 'wait_ms'"
                )
        if self.stages[0].wait_for:
            raise ValueError("stages[0].wait_for: no stage is before the first; remove it")
        return self

    @model_validator(mode="after")
    def _emulated_stages_understand_each_other(self) -> Self:
        kinds = {stage.kind for stage in self.stages}
        if StageKind.EMULATED in kinds and len(kinds) > 1:
            raise ValueError(
                f"the stages are {', '.join(repr(stage.kind.value) for stage in self.stages)}: emulated words mean "
                "nothing to other kinds; make all stages 'emulated' or none"
            )
        for rank, stage in enumerate(self.stages, start=1):
            if stage.emulation is not None:
                num_later = len(self.stages) - rank
                check_emulation(f"stages[{rank - 1}].emulation", stage.emulation, num_later=num_later)
        return self

    @model_validator(mode="after")
    def _scaling_makes_sense(self) -> Self:
        scaled = [rank for rank, stage in enumerate(self.stages) if stage.scaling is not None]
        if len(self.stages) - 1 in scaled and self.stages[-1].scaling.min_replicas == 0:  # type: ignore[union-attr] # it is in the list
            raise ValueError(
                "the target's scaling.min_replicas is 0: without a target nothing is served; 1 is the least"
            )
        if self.kubernetes is not None and len(self.kubernetes.workloads) != len(self.stages):
            raise ValueError(
                f"kubernetes.workloads names {len(self.kubernetes.workloads)} StatefulSets for {len(self.stages)} stages; "
                "one each, from the smallest stage to the target"
            )
        return self

    @model_validator(mode="after")
    def _nothing_is_open_by_accident(self) -> Self:
        binds = [(f"brokers[{n}].bind", broker.bind or broker.host) for n, broker in enumerate(self.brokers)]
        binds += [("gateway.host", self.gateway.host), ("stage_host", self.stage_host)]
        if self.autoscaler is not None:
            binds.append(("autoscaler.host", self.autoscaler.host))
        if not self.bind_any_address:
            check_binds(binds)
        check_bus(self.bus, hosts=[host for b in self.brokers for host in (b.host, b.bind or b.host)])
        gate = self.gateway
        check_zmq_edge(gate.host, keys=gate.zmq_keys, insecure=gate.zmq_insecure, api_keys=gate.api_keys)
        return self

    @property
    def target(self) -> StageSettings:
        """The last stage, whose output is the chain's."""
        return self.stages[-1]

    @property
    def model_name(self) -> str:
        """What clients call the model."""
        reference = self.target.model or self.name
        return self.gateway.model_name or reference.rstrip("/").split("/")[-1].split(":")[-1]


def load_pipeline(path: Path) -> Pipeline:
    """Read and check a pipeline file.

    Raises:
        SettingsError: the file cannot be read, is not YAML, or a key is unknown or out of range.
    """
    return parse_pipeline(read_document(path), source=str(path))


def read_document(path: Path) -> Any:
    """Read a YAML file, unchecked.

    Raises:
        SettingsError: the file cannot be read or is not YAML.
    """
    try:
        return yaml.load(path.read_text(encoding="utf-8"), Loader=UniqueKeys)  # noqa: S506  # a safe loader
    except OSError as error:
        raise SettingsError(f"cannot read the pipeline file {path}: {error.strerror}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise SettingsError(f"{path} is not valid YAML: {error}") from error


def parse_pipeline(document: Any, *, source: str) -> Pipeline:
    """Check a document that is already read; ``source`` names it in errors.

    Raises:
        SettingsError: a key is unknown or out of range.
    """
    if not isinstance(document, dict):
        raise SettingsError(f"{source}: expected a mapping with 'stages', got {type(document).__name__}")
    try:
        return Pipeline.model_validate(document)
    except ValidationError as error:
        # A tuple whose items are bad is reported as too short as well.
        found = [p for p in error.errors() if not (p["type"] == "too_short" and p["input"])]
        problems = "\n".join(_explain(problem) for problem in found)
        raise SettingsError(f"{source} has settings that cannot be used:\n{problems}") from error


def _explain(problem: Any) -> str:
    path = ".".join(str(part) for part in problem["loc"]) or "(whole file)"
    if problem["type"] == "extra_forbidden":
        return f"  {path}: unknown key; allowed here: {', '.join(_allowed(problem['loc']))}"
    if problem["type"] == "missing":
        return f"  {path}: is required"
    return f"  {path} = {reprlib.repr(problem['input'])}: {problem['msg']}"


def _allowed(loc: tuple[int | str, ...]) -> list[str]:
    if "emulation" in loc[:-1]:
        return sorted(EmulationSettings.model_fields)
    if "scaling" in loc[:-1]:
        return sorted(ScalingSettings.model_fields)
    models: dict[str, type[BaseModel]] = {
        "stages": StageSettings,
        "brokers": BrokerSettings,
        "bus": BusSettings,
        "gateway": GatewaySettings,
        "timers": TimerSettings,
        "log": LogSettings,
        "kubernetes": KubernetesSettings,
        "autoscaler": AutoscalerSettings,
    }
    parent = models.get(str(loc[0]), Pipeline) if len(loc) > 1 else Pipeline
    return sorted(parent.model_fields)
