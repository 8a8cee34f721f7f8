"""The fault plan of one seed: which faults, how hard, when they end. Printed when a seed fails."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random

Node = str


@dataclass(frozen=True)
class Cut:
    """No message from ``source`` to ``sink`` in [start, end); ``*`` is everyone."""

    source: Node
    sink: Node
    start: float
    end: float


@dataclass(frozen=True)
class Restart:
    """The node loses all state at ``at`` and is back after ``down_s`` with a new incarnation."""

    node: Node
    at: float
    down_s: float


@dataclass(frozen=True)
class Plan:
    """All faults end at ``heal_s``; probabilities are per message."""

    heal_s: float
    drop: float = 0.0
    duplicate: float = 0.0
    spike: float = 0.0
    max_spike_s: float = 0.0
    cuts: tuple[Cut, ...] = ()
    restarts: tuple[Restart, ...] = ()
    slow: tuple[tuple[Node, float], ...] = ()


def draw_plan(random: Random, nodes: list[Node], heal_s: float) -> Plan:
    """Swarm testing: every class of fault may be absent, so that rare mixtures occur (Groce et al. 2012)."""

    def maybe(value: float) -> float:
        return value if random.random() < 0.6 else 0.0

    stages = [node for node in nodes if node.startswith("stage")]
    cuts: list[Cut] = []
    for _ in range(random.choice([0, 0, 1, 2, 4])):
        start = random.uniform(0, heal_s * 0.8)
        end = min(heal_s, start + random.uniform(0.05, 2.0))
        source, sink = random.choice([*nodes, "*"]), random.choice([*nodes, "*"])
        cuts.append(Cut(source, sink, start, end))
    restarts: list[Restart] = []
    for _ in range(random.choice([0, 0, 1, 2, 5])):
        at = random.uniform(0, heal_s * 0.9)
        restarts.append(Restart(random.choice(stages), at, min(heal_s - at, random.uniform(0.01, 1.5))))
    slow = tuple((node, random.uniform(1, 5)) for node in stages if random.random() < 0.15)
    return Plan(
        heal_s=heal_s,
        drop=maybe(random.choice([0.01, 0.1, 0.3, 0.6])),
        duplicate=maybe(random.choice([0.05, 0.3])),
        spike=maybe(random.choice([0.02, 0.2])),
        max_spike_s=random.choice([0.05, 0.6]),
        cuts=tuple(cuts),
        restarts=tuple(restarts),
        slow=slow,
    )
