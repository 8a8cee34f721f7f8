"""The four modes: what a seed means in each. A seed is expanded to a case; nothing of it is drawn later but chance.

Swarm testing: every class of fault may be absent, so that rare mixtures occur (Groce et al. 2012).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from random import Random

from sim.plan import (
    FOREVER,
    JOINER,
    Case,
    Clock,
    Crowd,
    Cut,
    Joiner,
    Leap,
    Node,
    Plan,
    Request,
    Restart,
    Span,
    Spans,
    StageSpec,
)
from sim.single import single_case

HEAL_S = 2.0
CORE_PATIENCE_S = 20.0
RUINS = ("dead", "mute", "deaf", "cut", "frozen", "hung", "flapping", "flapping")
PATIENCE_S = 8.0
"""After healing, everything ends within this virtual time; a clean run takes about one second."""


def case_of(mode: str, seed: int) -> Case:
    """The case that a seed means in a mode."""
    return MODES[mode](seed)


def safety_case(seed: int) -> Case:
    """All faults until ``HEAL_S``, then everything heals and every session has to end."""
    random = Random(f"safety-{seed}")
    chain, gateways = _chain(random), random.choice([1, 1, 2])
    nodes = _nodes(chain, gateways)
    plan = _swarm(random, nodes, chain)
    requests = _requests(random, gateways)
    return Case("safety", seed, chain, gateways, plan, requests, _timers(random, plan), patience_s=PATIENCE_S)


def fork_case(seed: int) -> Case:
    """As safety, but the target's replicas disagree at 3 % of all prefixes, and lose their sessions more often."""
    random = Random(f"fork-{seed}")
    chain, gateways = _chain(random, targets=(2, 2, 3)), random.choice([1, 2])
    nodes = _nodes(chain, gateways)
    plan = _swarm(random, nodes, chain)
    targets = [node for node in nodes if node.startswith(f"stage.{len(chain) - 1}.")]
    freezes = [_span(random, random.choice(targets), longest_s=0.6) for _ in range(random.randint(1, 4))]
    plan = replace(plan, freezes=(*plan.freezes, *freezes))
    requests = _requests(random, gateways)
    return Case("fork", seed, chain, gateways, plan, requests, _timers(random, plan), fork=0.03)


def core_case(seed: int) -> Case:
    """After ``HEAL_S`` one target replica and the gateways are well; everything else is dead, cut or comes and goes."""
    random = Random(f"core-{seed}")
    chain, gateways = _chain(random, targets=(1, 2, 2, 3)), random.choice([1, 1, 2])
    nodes = _nodes(chain, gateways)
    healthy = f"stage.{len(chain) - 1}.r{random.randrange(chain[-1].replicas)}."
    plan = _swarm(random, nodes, chain)
    is_teasing = random.random() < 0.3
    for node in nodes:
        if node.startswith("stage.") and node != healthy:
            is_draft = node.split(".")[1] != str(len(chain) - 1)
            tease = "flapping" if is_draft else "deaf"  # busy drafts around a target that hears nothing
            plan = _ruin(random, plan, node, tease if is_teasing else random.choice(RUINS))
    requests = _requests(random, gateways)
    late = tuple(replace(request, at_s=request.at_s + HEAL_S) for request in requests[: len(requests) // 2])
    timers = _timers(random, plan)
    return Case("core", seed, chain, gateways, plan, (*requests, *late), timers, patience_s=CORE_PATIENCE_S)


def _timers(random: Random, plan: Plan) -> Spans:
    """Where other weights turn up, a session may begin with them and lose them for good: it is given up in time."""
    skews = {each.skew for each in (*plan.restarts, *plan.joiners)}
    return Spans(lost_s=2.0 if "weights" in skews else random.choice([2.0, 30.0]))


def _ruin(random: Random, plan: Plan, node: Node, how: str) -> Plan:
    """From now on the node is of no use, and never again."""
    match how:
        case "dead":
            return replace(plan, restarts=(*plan.restarts, Restart(node, HEAL_S, FOREVER)))
        case "mute":
            return replace(plan, cuts=(*plan.cuts, Cut(node, "*", HEAL_S, FOREVER)))
        case "deaf":
            return replace(plan, cuts=(*plan.cuts, Cut("*", node, HEAL_S, FOREVER)))
        case "cut":
            both = Cut("*", node, HEAL_S, FOREVER), Cut(node, "*", HEAL_S, FOREVER)
            return replace(plan, cuts=(*plan.cuts, *both))
        case "frozen":
            return replace(plan, freezes=(*plan.freezes, Span(node, HEAL_S, FOREVER)))
        case "hung":
            return replace(plan, hangs=(*plan.hangs, Span(node, HEAL_S, FOREVER)))
        case _:
            return _flap(random, plan, node)


def _flap(random: Random, plan: Plan, node: Node) -> Plan:
    """It crashes or freezes again and again, in a rhythm of its own, for as long as the run may last."""
    up_s, down_s = random.uniform(0.2, 1.2), random.uniform(0.05, 0.9)
    times = [HEAL_S + index * (up_s + down_s) for index in range(int(30 / (up_s + down_s)))]
    if random.random() < 0.5:
        return replace(plan, restarts=(*plan.restarts, *(Restart(node, at, down_s) for at in times)))
    return replace(plan, freezes=(*plan.freezes, *(Span(node, at, at + down_s) for at in times)))


def _chain(random: Random, *, targets: tuple[int, ...] = (1, 2)) -> tuple[StageSpec, ...]:
    """Two to four stages, one or two replicas, good and bad drafts."""
    drafts = [
        StageSpec(random.uniform(0.002, 0.02), random.choice([0.0, 0.5, 0.8, 0.95]), random.choice([1, 1, 2]))
        for _ in range(random.choice([1, 1, 2, 3]))
    ]
    if random.random() < 0.3:
        drafts[0] = replace(drafts[0], is_model_free=True, lookahead=16)
    return (*drafts, StageSpec(0.03, 1.0, random.choice(targets)))


def _nodes(chain: tuple[StageSpec, ...], gateways: int) -> list[Node]:
    stages = [f"stage.{rank}.r{index}." for rank, spec in enumerate(chain) for index in range(spec.replicas)]
    return [*stages, *(f"gateway.g{index}." for index in range(gateways))]


def _requests(random: Random, gateways: int) -> tuple[Request, ...]:
    return tuple(
        Request(
            at_s=random.uniform(0.1, 1.5),
            gateway=random.randrange(gateways),
            num_prompt=random.choice([1, 5, 40]),
            max_tokens=random.randint(1, 40),
            seed=random.getrandbits(60),
            stop_ids=tuple(random.randrange(997) for _ in range(random.choice([0, 0, 20]))),
            cancel_s=random.uniform(0, 1.0) if random.random() < 0.2 else FOREVER,
        )
        for _ in range(random.randint(2, 4))
    )


def _span(random: Random, node: Node, *, longest_s: float) -> Span:
    start = random.uniform(0, HEAL_S * 0.9)
    return Span(node, start, min(HEAL_S, start + random.uniform(0.02, longest_s)))


def _swarm(random: Random, nodes: list[Node], chain: tuple[StageSpec, ...]) -> Plan:
    """Each class of fault with a probability of its own."""

    def some(probability: float, most: int) -> range:
        return range(random.randint(1, most) if random.random() < probability else 0)

    def maybe(probability: float, *values: float) -> float:
        return random.choice(values) if random.random() < probability else 0.0

    stages = [node for node in nodes if node.startswith("stage")]
    gateways = [node for node in nodes if node.startswith("gateway")]
    restarts = [_restart(random, random.choice(stages)) for _ in some(0.5, 4)]
    restarts += [_restart(random, random.choice(gateways)) for _ in some(0.2, 2)]
    restarts += [restart for _ in some(0.1, 1) for restart in _wrong_rollout(random, random.choice(stages))]
    return Plan(
        heal_s=HEAL_S,
        drop=maybe(0.6, 0.01, 0.1, 0.3, 0.6),
        duplicate=maybe(0.5, 0.05, 0.3),
        spike=maybe(0.5, 0.02, 0.2),
        max_spike_s=random.choice([0.05, 0.6]),
        flip=maybe(0.3, 0.01, 0.1),
        hwm=random.choice([10, 50, 1000]),
        deaf_s=maybe(0.4, 0.01, 0.3),
        cuts=tuple(cut for _ in some(0.5, 3) for cut in _cuts(random, nodes)),
        restarts=tuple(restarts),
        freezes=tuple(_span(random, random.choice(nodes), longest_s=1.5) for _ in some(0.4, 3)),
        hangs=tuple(_span(random, random.choice(stages), longest_s=1.5) for _ in some(0.3, 2)),
        crowds=tuple(_crowd(random, random.choice(nodes)) for _ in some(0.2, 2)),
        leaps=tuple(
            Leap(random.choice(nodes), random.uniform(0, HEAL_S), random.choice([0.5, 3600.0]))
            for _ in some(0.15, 2)
        ),
        clocks=tuple(
            Clock(node, random.choice([0.0, random.uniform(0, 1e7)]), random.uniform(0.99, 1.01))
            for node in (nodes if random.random() < 0.5 else ())
        ),
        joiners=tuple(_joiner(random, chain) for _ in some(0.3, 2)),
        misreads=tuple(random.choice(stages) for _ in some(0.1, 1)),
        slow=tuple((node, random.uniform(1, 5)) for node in stages if random.random() < 0.1),
    )


def _restart(random: Random, node: Node) -> Restart:
    at = random.uniform(0, HEAL_S * 0.9)
    return Restart(node, at, min(HEAL_S - at, random.uniform(0.01, 1.0)))


def _wrong_rollout(random: Random, node: Node) -> list[Restart]:
    """The node comes back as one of another chain, and is put right before all else heals."""
    skew = random.choice(["tokenizer", "weights"])
    wrong = Restart(node, random.uniform(0, 1.2), random.uniform(0.01, 0.5), skew)
    return [wrong, Restart(node, HEAL_S + 0.02, 0.0)]


def _cuts(random: Random, nodes: list[Node]) -> list[Cut]:
    """One way, both ways between two, or one node from everyone."""
    start = random.uniform(0, HEAL_S * 0.8)
    end = min(HEAL_S, start + random.uniform(0.05, 1.8))
    one, other = random.choice([*nodes, "*"]), random.choice(nodes)
    match random.choice(["one way", "one way", "both ways", "isolated"]):
        case "one way":
            return [random.choice([Cut(one, other, start, end), Cut(other, one, start, end)])]
        case "both ways":
            return [Cut(one, other, start, end), Cut(other, one, start, end)]
        case _:
            return [Cut("*", other, start, end), Cut(other, "*", start, end)]


def _crowd(random: Random, node: Node) -> Crowd:
    span = _span(random, node, longest_s=1.5)
    return Crowd(node, span.start, span.end, random.choice([0.001, 0.005, 0.02]))


def _joiner(random: Random, chain: tuple[StageSpec, ...]) -> Joiner:
    rank = random.randrange(len(chain))
    skew = random.choice(["tokenizer", "weights"]) if rank == len(chain) - 1 else "tokenizer"
    return Joiner(f"stage.{rank}.r{JOINER}.", random.uniform(0, HEAL_S), skew)


MODES: dict[str, Callable[[int], Case]] = {
    "safety": safety_case,
    "core": core_case,
    "single": single_case,
    "fork": fork_case,
}
"""Liveness mode is called ``core``: what is well is one target and the gateways."""
