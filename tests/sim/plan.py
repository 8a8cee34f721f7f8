"""One case of the simulation, written out: chain, faults, requests. Nothing is drawn from the mode any more.

A case is what a violation prints and what the regression file keeps: it means the same when the generators of ``modes``
have changed. What is left to chance while it runs (which message is lost) comes from its seed. Times are seconds.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from pydantic import TypeAdapter

from pipespec.protocol.ids import Topic, stage_inbox

Node = str
FOREVER = 1e9
JOINER = 9
"""Index of a replica that joins late, ``r9``."""


@dataclass(frozen=True)
class StageSpec:
    """One stage of the simulated chain: ``step_s`` seconds a step, ``agreement`` with the next one; not the target's."""

    step_s: float
    agreement: float
    replicas: int = 1
    lookahead: int = 8
    max_batch: int = 8
    max_tokens: int = 40
    is_model_free: bool = False


@dataclass(frozen=True)
class Cut:
    """No message from ``source`` to ``sink`` in [start, end); ``*`` is everyone."""

    source: Node
    sink: Node
    start: float
    end: float


@dataclass(frozen=True)
class Restart:
    """The node loses all state at ``at`` and is back after ``down_s`` with a new incarnation.

    Attributes:
        skew: what differs in the process that comes back: ``tokenizer``, ``weights`` or nothing.
    """

    node: Node
    at: float
    down_s: float
    skew: str = ""


@dataclass(frozen=True)
class Span:
    """Something is the matter with a node in [start, end)."""

    node: Node
    start: float
    end: float


@dataclass(frozen=True)
class Crowd:
    """A slow reader: what is for ``node`` comes through one by one, each in ``service_s``; the queue holds the HWM."""

    node: Node
    start: float
    end: float
    service_s: float


@dataclass(frozen=True)
class Leap:
    """A machine's monotonic clock leaps forward, as after a pause that it counts (clocks never go back)."""

    node: Node
    at: float
    by_s: float


@dataclass(frozen=True)
class Clock:
    """A machine's monotonic clock began at ``origin_s`` and runs ``rate`` times as fast as the world's."""

    node: Node
    origin_s: float
    rate: float


@dataclass(frozen=True)
class Joiner:
    """A replica that does not belong to the chain joins at ``at``."""

    node: Node
    at: float
    skew: str


@dataclass(frozen=True)
class Plan:
    """The faults of a case; probabilities are per message and hold until ``heal_s``.

    Attributes:
        hwm: messages that wait for a node at most: before a slow reader, or while it is frozen.
        misreads: nodes with a damaged memory: half of the prompts that they read are others.
        deaf_s: after it (re)joins a node loses everything from and to it for so long.
    """

    heal_s: float
    drop: float = 0.0
    duplicate: float = 0.0
    spike: float = 0.0
    max_spike_s: float = 0.0
    flip: float = 0.0
    hwm: int = 1000
    deaf_s: float = 0.0
    cuts: tuple[Cut, ...] = ()
    restarts: tuple[Restart, ...] = ()
    freezes: tuple[Span, ...] = ()
    hangs: tuple[Span, ...] = ()
    crowds: tuple[Crowd, ...] = ()
    leaps: tuple[Leap, ...] = ()
    clocks: tuple[Clock, ...] = ()
    joiners: tuple[Joiner, ...] = ()
    slow: tuple[tuple[Node, float], ...] = ()
    misreads: tuple[Node, ...] = ()


@dataclass(frozen=True)
class Request:
    """One client. ``cancel_s`` after it has come it goes away, unless it was served."""

    at_s: float
    gateway: int
    num_prompt: int
    max_tokens: int
    seed: int
    stop_ids: tuple[int, ...] = ()
    cancel_s: float = FOREVER


@dataclass(frozen=True)
class Spans:
    """The protocol's timers, see ``Timers``."""

    heartbeat_s: float = 0.05
    dead_s: float = 0.3
    stall_s: float = 1.0
    lease_s: float = 1.5
    sync_s: float = 0.025
    hung_s: float = 0.5
    lost_s: float = 30.0


@dataclass(frozen=True)
class Case:
    """All that happens.

    Attributes:
        moods: engines give a session's cache away at times.
        fork: probability that a target replica's choice is its own, per prefix and replica but the first.
        patience_s: after healing (and the last request) everything ends within this.
        budget_s: longest pause that a client may see; in single-fault mode.
        fault: the class of the single fault.
    """

    mode: str
    seed: int
    chain: tuple[StageSpec, ...]
    gateways: int
    plan: Plan
    requests: tuple[Request, ...]
    timers: Spans = Spans()
    fork: float = 0.0
    moods: bool = True
    patience_s: float = 8.0
    budget_s: float = FOREVER
    fault: str = ""

    @property
    def target(self) -> int:
        """Rank of the last stage."""
        return len(self.chain) - 1

    @property
    def longest_rest_s(self) -> float:
        """Of those nodes that wake again."""
        spans = (*self.plan.freezes, *self.plan.hangs)
        return max((span.end - span.start for span in spans if span.end < FOREVER), default=0.0)

    @property
    def settled_s(self) -> float:
        """From here on nothing arrives that was sent before all healed, but to nodes that rest."""
        plan = self.plan
        crowds = [plan.hwm * crowd.service_s for crowd in plan.crowds]
        return plan.heal_s + plan.max_spike_s + max(crowds, default=0.0)

    def stages(self) -> Iterator[Topic]:
        """Inboxes of all replicas."""
        for rank, spec in enumerate(self.chain):
            for index in range(spec.replicas):
                yield stage_inbox(rank, f"r{index}")  # type: ignore[arg-type]  # a rank


_CASES: TypeAdapter[Case] = TypeAdapter(Case)


def dump_case(case: Case) -> str:
    """One line of JSON."""
    return _CASES.dump_json(case, exclude_defaults=True).decode()


def load_case(line: str) -> Case:
    """Of one line of JSON."""
    return _CASES.validate_json(line)
