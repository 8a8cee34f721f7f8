"""What the authors of PipeSpec recorded and published, for HumanEval: the stages to emulate, the figures to compare with.

Sources: arXiv 2505.01572, table 2; the authors' benchmark results (one prompt per run, A100-40GB, 70B in 4-bit NF4 on two of
them). Latencies are medians, agreements are per token. Rounded.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

ONE_B: dict[str, Any] = {"stands_for": "1B", "latency_ms": {1: 11.7}}
"""1B fp16, one token as a free-running draft."""
EIGHT_B: dict[str, Any] = {"stands_for": "8B", "latency_ms": {1: 22.77, 5: 25.75, 8: 26.24}}
"""8B fp16: one token as a draft; verifying 5 and 8."""
EIGHT_B_BETWEEN: dict[str, Any] = {"stands_for": "8B", "latency_ms": {1: 22.77, 5: 27.8, 8: 28.3}}
"""The same as the middle of three."""
SEVENTY_B: dict[str, Any] = {"stands_for": "70B", "latency_ms": {1: 120.46, 2: 427.81, 9: 428.2, 35: 439.0}}
"""70B NF4: one token; 2 to 9; up to 35."""

AGREEMENT_1B_8B = 0.9394
AGREEMENT_8B_70B = 0.9619
AGREEMENT_1B_70B = 0.9572


class Mode(StrEnum):
    """How a chain serves."""

    ALONE = "target alone"
    SYNCHRONOUS = "synchronous"
    PIPELINE = "pipeline"


@dataclass(frozen=True, slots=True)
class RecordedChain:
    """A chain of the paper.

    Attributes:
        name: its models, small to large.
        stages: latencies and agreement of each.
        lookaheads: of the drafts, in our pipeline: those that ``pipespec plan`` finds.
        synchronous: lookaheads of synchronous speculation, as the authors ran it.
        paper: published speed-ups over the target alone.
        runs: speed-ups of the recorded runs over the target alone on the same prompt.
    """

    name: str
    stages: tuple[dict[str, Any], ...]
    lookaheads: tuple[int, ...]
    synchronous: tuple[int, ...]
    paper: dict[Mode, float] = field(default_factory=dict)
    runs: dict[Mode, tuple[float, ...]] = field(default_factory=dict)

    def document(self, *, replicas: int) -> dict[str, Any]:
        """As a pipeline file, every stage with so many replicas."""
        stages = [{"kind": "emulated", "replicas": replicas, "emulation": stage} for stage in self.stages]
        for stage, lookahead in zip(stages, self.lookaheads, strict=False):
            stage["lookahead"] = lookahead
        return {"name": "bench-paper", "stages": stages, "gateway": {"model_name": self.name}}


CHAINS = (
    RecordedChain(
        name="8B-70B",
        stages=({**EIGHT_B, "agreement": AGREEMENT_8B_70B}, SEVENTY_B),
        lookaheads=(48,),
        synchronous=(8,),
        paper={Mode.SYNCHRONOUS: 1.32, Mode.PIPELINE: 2.27},
        runs={Mode.SYNCHRONOUS: (1.184, 1.346), Mode.PIPELINE: (2.563, 2.422)},
    ),
    RecordedChain(
        name="1B-70B",
        stages=({**ONE_B, "agreement": AGREEMENT_1B_70B}, SEVENTY_B),
        lookaheads=(64,),
        synchronous=(6,),
        runs={Mode.SYNCHRONOUS: (1.36,)},
    ),
    RecordedChain(
        name="1B-8B-70B",
        stages=(
            {**ONE_B, "agreement": AGREEMENT_1B_8B, "agreement_beyond": {1: AGREEMENT_1B_70B}},
            {**EIGHT_B_BETWEEN, "agreement": AGREEMENT_8B_70B},
            SEVENTY_B,
        ),
        lookaheads=(3, 64),
        synchronous=(8, 8),
        paper={Mode.SYNCHRONOUS: 1.37, Mode.PIPELINE: 2.54},
        runs={Mode.SYNCHRONOUS: (1.342, 1.369), Mode.PIPELINE: (2.44, 2.723)},
    ),
)
