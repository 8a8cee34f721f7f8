"""What a campaign has done so far: kept in a file while it runs, so that it can be stopped and go on.

The ledger belongs to one state of the sources: where protocol, simulated world or cases have changed, it begins anew.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
_SOURCES = (
    "services/pipespec/protocol",
    "services/pipespec/planner/simulation",
    "services/pipespec/emulation",
    "tests/sim",
)
_BIN_MS = 1.0


@dataclass
class Share:
    """What a run of seeds of one mode brought.

    Attributes:
        pauses: by class of single fault: milliseconds -> sessions.
    """

    seeds: int = 0
    sessions: int = 0
    tokens: int = 0
    messages: int = 0
    busy_s: float = 0.0
    slowest_s: float = 0.0
    faults: dict[str, int] = field(default_factory=dict)
    pauses: dict[str, dict[str, int]] = field(default_factory=dict)
    violations: list[dict[str, Any]] = field(default_factory=list)

    def add(self, other: Share) -> None:
        """Count another one in."""
        for name in ("seeds", "sessions", "tokens", "messages", "busy_s"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.slowest_s = max(self.slowest_s, other.slowest_s)
        self.faults = dict(Counter(self.faults) + Counter(other.faults))
        for fault, pauses in other.pauses.items():
            self.pauses[fault] = dict(Counter(self.pauses.get(fault, {})) + Counter(pauses))
        self.violations += other.violations

    def note_pauses(self, fault: str, pauses_s: tuple[float, ...]) -> None:
        """Count the longest pauses of sessions."""
        bins = self.pauses.setdefault(fault, {})
        for pause_s in pauses_s:
            key = str(round(1000 * pause_s / _BIN_MS))
            bins[key] = bins.get(key, 0) + 1

    def pause_ms(self) -> dict[str, dict[str, float]]:
        """Median, 99th percentile and maximum by class of fault."""
        return {fault: _quantiles(bins) for fault, bins in sorted(self.pauses.items())}


def _quantiles(bins: dict[str, int]) -> dict[str, float]:
    ordered = sorted((int(key), count) for key, count in bins.items())
    total = sum(count for _, count in ordered)
    found: dict[str, float] = {"sessions": total}
    for name, share in (("p50", 0.5), ("p99", 0.99), ("max", 1.0)):
        seen = 0
        for value, count in ordered:
            seen += count
            if seen >= share * total:
                found[name] = value * _BIN_MS
                break
    return found


@dataclass
class Ledger:
    """All chunks that are done, and what they brought by mode."""

    sources: str
    chunk: int
    done: dict[str, list[int]] = field(default_factory=dict)
    shares: dict[str, Share] = field(default_factory=dict)
    seconds: float = 0.0

    @classmethod
    def open(cls, file: Path, *, chunk: int, afresh: bool) -> Ledger:
        """The one in the file, where it belongs to these sources; else an empty one."""
        sources = digest_of_sources()
        if not afresh and file.exists():
            kept = json.loads(file.read_text(encoding="utf-8"))
            if kept["sources"] == sources and kept["chunk"] == chunk:
                kept["shares"] = {mode: Share(**share) for mode, share in kept["shares"].items()}
                return cls(**kept)
        return cls(sources, chunk)

    def save(self, file: Path) -> None:
        """Write it; a half-written one never takes a whole one's place."""
        file.parent.mkdir(parents=True, exist_ok=True)
        draft = file.with_suffix(".part")
        draft.write_text(json.dumps(asdict(self)), encoding="utf-8")
        draft.replace(file)

    def is_done(self, mode: str, first: int) -> bool:
        """Whether the chunk that begins there is counted in."""
        return first in self.done.get(mode, ())

    def add(self, mode: str, first: int, share: Share) -> None:
        """Count a chunk in."""
        self.done.setdefault(mode, []).append(first)
        self.shares.setdefault(mode, Share()).add(share)

    @property
    def total(self) -> Share:
        """Over all modes."""
        total = Share()
        for share in self.shares.values():
            total.add(share)
        return total


def digest_of_sources() -> str:
    """Of all that a seed's meaning depends on."""
    digest = hashlib.blake2b(digest_size=16)
    for folder in _SOURCES:
        for file in sorted((ROOT / folder).rglob("*.py")):
            digest.update(file.relative_to(ROOT).as_posix().encode() + b"\0" + file.read_bytes())
    return digest.hexdigest()
