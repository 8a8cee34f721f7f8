"""The fleets that are scaled: the paper's chains with its recorded latencies, and what sharing a step may cost.

The recordings are of one session. What a further session costs a step (``session_ms``: its own attention, its own sampling) is
assumed: 0.4, 0.8 and 4 ms. GPUs are those of the recordings: one for 1B and for 8B, two for 70B in four bits.
"""

from __future__ import annotations

from typing import Any

from pipespec.bench.recorded import (
    AGREEMENT_1B_8B,
    AGREEMENT_1B_70B,
    AGREEMENT_8B_70B,
    EIGHT_B_BETWEEN,
    ONE_B,
    SEVENTY_B,
)
from pipespec.ops.pipeline import Pipeline, parse_pipeline


def _stage(
    emulation: dict[str, Any],
    *,
    session_ms: float,
    gpus: float,
    max_sessions: int,
    least: int,
    lookahead: int,
) -> dict[str, Any]:
    return {
        "kind": "emulated",
        "lookahead": lookahead,
        "max_sessions": max_sessions,
        "max_batch": max_sessions,
        "scaling": {"min_replicas": least, "max_replicas": 32, "gpus": gpus},
        "emulation": {**emulation, "session_ms": session_ms},
    }


_TARGET = _stage(SEVENTY_B, session_ms=4.0, gpus=2, max_sessions=32, least=1, lookahead=8)


def pair() -> Pipeline:
    """1B before 70B."""
    draft = {**ONE_B, "agreement": AGREEMENT_1B_70B}
    small = _stage(draft, session_ms=0.4, gpus=1, max_sessions=128, least=0, lookahead=24)
    return parse_pipeline({"name": "pair", "stages": [small, _TARGET]}, source="pair")


def three() -> Pipeline:
    """1B, 8B, 70B; the 8B may be switched off."""
    one = {**ONE_B, "agreement": AGREEMENT_1B_8B, "agreement_beyond": {1: AGREEMENT_1B_70B}}
    eight = {**EIGHT_B_BETWEEN, "agreement": AGREEMENT_8B_70B}
    stages = [
        _stage(one, session_ms=0.4, gpus=1, max_sessions=128, least=0, lookahead=16),
        _stage(eight, session_ms=0.8, gpus=1, max_sessions=128, least=0, lookahead=24),
        _TARGET,
    ]
    return parse_pipeline({"name": "three", "stages": stages}, source="three")


FLEETS = {"pair": pair, "three": three}
"""By name."""
