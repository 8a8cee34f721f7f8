"""The fleets that are shot at: which processes, how fast, which of them are programs of the tests."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from chaos.fleet import FAST, Fleet
from chaos.programs.forked import other

LATE, FORKED, SKEWED, OTHER_WEIGHTS = "r2", "r3", "r4", "r5"
"""Replicas of the target that start when a row wants them."""


def _other_weights(fleet: Fleet) -> Fleet:
    """One of the spare targets reads a file in which the target is another."""
    *drafts, target = fleet.pipeline.stages
    stages = (*drafts, other(target))
    file = fleet.write(fleet.pipeline.model_copy(update={"stages": stages}), "other-weights")
    fleet.stage(-1, OTHER_WEIGHTS).reads(file)
    return fleet


def spare(fleet: Fleet) -> tuple[str, ...]:
    """Names of the processes that do not start with the others."""
    rank = len(fleet.pipeline.stages) - 1
    return tuple(f"stage-{rank}-{replica}" for replica in (LATE, FORKED, SKEWED, OTHER_WEIGHTS))


def _programs(rank: int) -> dict[str, str]:
    return {
        "stage-0-r0": "chaos.programs.hangable",
        f"stage-{rank}-r0": "chaos.programs.hangable",
        f"stage-{rank}-{FORKED}": "chaos.programs.forked",
        f"stage-{rank}-{SKEWED}": "chaos.programs.skewed",
    }


def _stage(replicas: int, ms: float, **emulation: Any) -> dict[str, Any]:
    latency = {1: ms, 64: 1.5 * ms}
    stage = {"kind": "emulated", "replicas": replicas, "emulation": {"latency_ms": latency, **emulation}}
    return stage | {"lookahead": 4, "drain_timeout_s": 10.0}


DRAFT: dict[str, float] = {"ms": 8, "agreement": 0.7}
TARGET: dict[str, Any] = {"ms": 40, "seed": 3}


def processes(folder: Path) -> Fleet:
    """Two drafts, one between, two targets, two brokers, two gateways."""
    document = {
        "name": "chaos",
        "stages": [_stage(2, **DRAFT), _stage(1, 16, agreement=0.8), _stage(6, **TARGET)],
        "brokers": [{}, {}],
        "timers": FAST,
    }
    return _other_weights(Fleet(document, folder, num_gateways=2, programs=_programs(2)))


def messages(folder: Path, timers: Mapping[str, float] = FAST) -> Fleet:
    """Two drafts, two targets, two gateways, and one broker that does what it should not."""
    document = {"name": "chaos", "stages": [_stage(2, **DRAFT), _stage(6, **TARGET)], "timers": dict(timers)}
    programs = _programs(1) | {"broker-0": "chaos.programs.faulty_broker"}
    return _other_weights(Fleet(document, folder, num_gateways=2, programs=programs))


def wires(folder: Path) -> Fleet:
    """One draft, two targets, one gateway and one broker, which ``hub.wired`` puts elsewhere; the lease outlasts 8 s."""
    document = {
        "name": "chaos",
        "stages": [_stage(1, **DRAFT), _stage(2, **TARGET)],
        "brokers": [{"bind": "0.0.0.0"}],  # noqa: S104 - in a network namespace of its own
        "bus": {"insecure": True},
        "bind_any_address": True,
        "timers": FAST | {"lease_ms": 10_000},
    }
    return Fleet(document, folder)


MODEL_TIMERS = {
    "heartbeat_ms": 100,
    "dead_ms": 1000,
    "stall_ms": 4000,
    "hung_ms": 4000,
    "prefill_ms_per_token": 10,
    "lease_ms": 6000,
}
"""Longer: a step of a prompt keeps one of two cores busy for half a second, and processes wait for each other."""


def model(folder: Path) -> Fleet:
    """A draft without a model and two replicas of SmolLM2-135M-Instruct in float32, two brokers, two gateways."""
    target = {
        "model": "embedded:smollm2-135m-instruct",
        "device": "cpu",
        "dtype": "float32",
        "replicas": 2,
        "prefill_chunk": 64,
        "cache_gib": 0.5,
        "drain_timeout_s": 10.0,
    }
    document = {
        "name": "chaos-model",
        "stages": [{"kind": "suffix", "lookahead": 8}, target],
        "brokers": [{}, {}],
        "timers": MODEL_TIMERS,
    }
    faulty = dict.fromkeys(("broker-0", "broker-1"), "chaos.programs.faulty_broker")
    programs = {"stage-1-r0": "chaos.programs.hangable"} | faulty
    return Fleet(document, folder, num_gateways=2, programs=programs)
