"""The autoscaler's closed forms beside the token-level simulator: how far off they are where sessions share replicas.

The paper's three chains, the same number of sessions on a replica of every stage, without and with a cost per session (that of
the comparison's fleets). Virtual time: the same figures on every machine. Keeps them in results/.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import mean

ROOT = Path(__file__).parent
sys.path.insert(0, str(ROOT.parent))  # so that it runs from any folder

from pipespec.bench.recorded import CHAINS, RecordedChain  # noqa: E402
from pipespec.ops.pipeline import Pipeline, parse_pipeline  # noqa: E402
from pipespec.planner.scaling.capacity import Capacity  # noqa: E402
from pipespec.planner.scaling.steady import steady_speed  # noqa: E402

SHARES = (1, 2, 4, 8, 16, 32)
SESSION_MS = {"1B": 0.4, "8B": 0.8, "70B": 4.0}
RESULTS = ROOT / "results" / "capacity.json"


@dataclass(frozen=True, slots=True)
class Point:
    """One case.

    Attributes:
        chain: its name.
        costs_sessions: whether a further session costs a step something.
        share: sessions per replica, of every stage.
        simulated_ms: per token.
        closed_ms: the same by closed forms.
    """

    chain: str
    costs_sessions: bool
    share: int
    simulated_ms: float
    closed_ms: float

    @property
    def error(self) -> float:
        """Of the closed forms, with its sign."""
        return self.closed_ms / self.simulated_ms - 1


def points() -> Iterator[Point]:
    """All cases."""
    for recorded in CHAINS:
        for costs_sessions in (False, True):
            chain = _chain(recorded, costs_sessions=costs_sessions)
            for share in SHARES:
                shares = (share,) * len(chain.stages)
                simulated = steady_speed(chain, shares).ms_per_token
                closed = Capacity(chain).rate(shares).ms_per_token
                yield Point(recorded.name, costs_sessions, share, round(simulated, 2), round(closed, 2))


def _chain(recorded: RecordedChain, *, costs_sessions: bool) -> Pipeline:
    document = recorded.document(replicas=1)
    for stage in document["stages"]:
        emulation = stage["emulation"]
        session_ms = SESSION_MS[emulation["stands_for"]] if costs_sessions else 0.0
        stage["emulation"] = {**emulation, "session_ms": session_ms}
    return parse_pipeline(document, source=recorded.name)


def main() -> None:
    """Print every case and the table, keep them."""
    measured = []
    for point in points():
        measured.append(point)
        print(
            f"{point.chain}, {point.share} sessions, costs {point.costs_sessions}: {point.error:+.1%}",
            flush=True,
        )
    print("\n| | error, mean | largest |\n| --- | ---: | ---: |")
    for recorded in CHAINS:
        errors = [abs(point.error) for point in measured if point.chain == recorded.name]
        print(f"| {recorded.name} | {mean(errors):.1%} | {max(errors):.1%} |")
    RESULTS.write_text(json.dumps([asdict(point) for point in measured], indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
