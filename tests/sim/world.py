"""The simulated world: virtual time, a faulty network, and the protocol core exactly as the services run it.

One heap of (time, order, action), one seeded ``Random``, no wall clock, no dependence on hash seeds: a failing
seed reproduces itself. Messages go through the real codec.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from random import Random

from pipespec.protocol.codec import decode, encode
from pipespec.protocol.fleet import Fleet
from pipespec.protocol.gateway_replica import Counted, Ended, Event, GatewayReplica, Skewed
from pipespec.protocol.ids import FLEET, Incarnation, Rank, SessionId, TokenId, Topic, gateway_inbox
from pipespec.protocol.messages import EndReason, Envelope, Heartbeat, Message
from pipespec.protocol.rules import Rules
from pipespec.protocol.sampling import Sampling
from pipespec.protocol.stage_replica import FreeCache, OpenCache, Place, StageReplica
from pipespec.protocol.stage_session import StageLimits
from pipespec.protocol.timers import Timers
from pipespec.protocol.work import Outcome, Work
from sim.model import VOCAB, HashModel, language_of, target_output
from sim.plan import Node, Plan

TIMERS = Timers(heartbeat_s=0.05, dead_s=0.3, stall_s=1.0, lease_s=3.0, sync_s=0.025)
TICK_S = 0.025
WINDOW = 20
"""Uncommitted tokens at most; small, so that back-pressure is reached."""
TOKENIZER = bytes(range(16))
WEIGHTS = b"w" * 16


@dataclass
class StageSpec:
    """One stage of the simulated chain: ``step_s`` seconds a step, ``agreement`` with the next one; not the target's."""

    step_s: float
    agreement: float
    replicas: int = 1
    lookahead: int = 8
    max_batch: int = 8
    max_tokens: int = 40
    is_model_free: bool = False


DEFAULT_CHAIN = (StageSpec(0.004, 0.7), StageSpec(0.012, 0.85), StageSpec(0.04, 1.0))


class Violation(AssertionError):
    """An invariant does not hold; the message names the seed's plan."""


@dataclass
class Client:
    """One session as its client sees it, with what it must see."""

    expected: list[TokenId]
    opened_s: float
    received: list[int] = field(default_factory=list)
    end: EndReason | None = None
    ended_s: float = 0.0
    cancelled: bool = False


class StageNode:
    """A stage replica in the world; a restart replaces it."""

    def __init__(self, world: World, rank: int, replica: str, spec: StageSpec) -> None:
        self.world, self.spec = world, spec
        place = Place(
            rank=Rank(rank),
            replica=replica,
            num_stages=len(world.chain),
            weights=WEIGHTS,
            tokenizer=TOKENIZER,
            vocab_size=VOCAB,
        )
        limits = StageLimits(
            lookahead=spec.lookahead,
            max_chunk=16,
            context_len=4096,
            is_model_free=spec.is_model_free,
            max_window=WINDOW,
        )
        self.core = StageReplica(place, limits, TIMERS, world.rules)
        self.model = HashModel(world.language, rank, is_model_free=spec.is_model_free)
        self.incarnation = Incarnation(world.random.getrandbits(64))
        self.number = 0
        self.turns = 0
        self.busy = False

    def receive(self, envelope: Envelope) -> None:
        """Apply a message and work if idle."""
        self.core.on_envelope(self.world.now, envelope)
        self.turn()

    def tick(self) -> None:
        """Timers and the heartbeat."""
        self.core.on_timer(self.world.now)
        self.turns += 1
        place = self.core.place
        beat = Heartbeat(
            rank=place.rank,
            replica=place.replica,
            ready=True,
            draining=False,
            model="hash",
            weights=place.weights,
            tokenizer=place.tokenizer,
            vocab_size=place.vocab_size,
            context_len=4096,
            num_stages=place.num_stages,
            turn=self.turns,
            sessions=len(self.core.sessions),
            max_sessions=place.max_sessions,
            counters=self.core.totals(),
        )
        self.world.send(self, FLEET, beat)
        self.turn()

    def turn(self) -> None:
        """What the stage's loop does: orders, publications, the next step."""
        for order in self.core.orders:
            if isinstance(order, OpenCache):
                self.model.open(order.message)
            elif isinstance(order, FreeCache):
                self.model.close(order.session)
        self.core.orders.clear()
        self.world.flush(self, self.core.place.inbox)
        if self.busy:
            return
        batch = self.core.work(self.world.now, max_batch=self.spec.max_batch, max_tokens=self.spec.max_tokens)
        if batch:
            self.busy = True
            results = [(work, self.model.step(work)) for work in batch]
            took = self.spec.step_s * self.world.slowness(self) * self.world.random.uniform(0.9, 1.1)
            self.world.after(took, lambda: self.done(results))

    def done(self, results: list[tuple[Work, Outcome]]) -> None:
        """The step ends; a step of a crashed node ends nowhere."""
        if not self.world.is_alive(self):
            return
        self.busy = False
        for work, outcome in results:
            self.core.on_outcome(self.world.now, work, outcome, busy_us=1)
        self.turn()


class GatewayNode:
    """The gateway in the world."""

    def __init__(self, world: World) -> None:
        self.world = world
        fleet = Fleet(num_stages=len(world.chain), tokenizer=TOKENIZER, timers=TIMERS)
        self.core = GatewayReplica(fleet, TIMERS, world.rules)
        self.inbox = gateway_inbox("g0")
        self.incarnation = Incarnation(world.random.getrandbits(64))
        self.number = 0

    def receive(self, envelope: Envelope) -> None:
        """Apply a message, tell clients."""
        self.core.on_envelope(self.world.now, envelope)
        self.turn()

    def tick(self) -> None:
        """Timers."""
        self.core.on_timer(self.world.now)
        self.turn()

    def turn(self) -> None:
        """Hand events to the clients and publish."""
        events, self.core.events = self.core.events, []
        for event in events:
            self.world.check_event(event)
        self.world.flush(self, self.inbox)


class World:
    """One run: a chain, a plan, some clients."""

    def __init__(
        self, seed: int, plan: Plan, *, chain: Sequence[StageSpec] = DEFAULT_CHAIN, rules: Rules | None = None
    ) -> None:
        self.random = Random(seed)
        self.plan, self.chain, self.rules = plan, chain, rules or Rules()
        self.language = language_of([spec.agreement for spec in chain[:-1]])
        self.now = 0.0
        self.messages = 0
        self.clients: dict[SessionId, Client] = {}
        self._heap: list[tuple[float, int, Callable[[], None]]] = []
        self._order = 0
        self.gateway = GatewayNode(self)
        self.nodes: dict[Node, StageNode | GatewayNode | None] = {"gateway.g0.": self.gateway}
        for rank, spec in enumerate(chain):
            for index in range(spec.replicas):
                self._start_stage(rank, f"r{index}", spec)
        for node in list(self.nodes):
            self.after(self.random.uniform(0, TICK_S), lambda node=node: self._tick(node))
        for restart in plan.restarts:
            self.after(restart.at, lambda r=restart: self._crash(r.node, r.down_s))

    # Time and the network

    def after(self, seconds: float, action: Callable[[], None]) -> None:
        """Run an action later."""
        self._order += 1
        heapq.heappush(self._heap, (self.now + seconds, self._order, action))

    def run(self, until: float, *, done: Callable[[], bool] = lambda: False) -> bool:
        """Run events up to a time; True as soon as ``done``."""
        while self._heap and self._heap[0][0] <= until:
            self.now, _, action = heapq.heappop(self._heap)
            action()
            if done():
                return True
        self.now = until
        return done()

    def _start_stage(self, rank: int, replica: str, spec: StageSpec) -> None:
        self.nodes[f"stage.{rank}.{replica}."] = StageNode(self, rank, replica, spec)

    def _tick(self, name: Node) -> None:
        node = self.nodes[name]
        if node is not None:
            node.tick()
        self.after(TICK_S, lambda: self._tick(name))

    def _crash(self, name: Node, down_s: float) -> None:
        self.nodes[name] = None
        _, rank, replica, _ = name.split(".")
        self.after(down_s, lambda: self._start_stage(int(rank), replica, self.chain[int(rank)]))

    def is_alive(self, node: StageNode) -> bool:
        """Whether this very incarnation still runs."""
        return self.nodes[node.core.place.inbox.decode()] is node

    def slowness(self, node: StageNode) -> float:
        """The plan's factor on a node's step time."""
        name = node.core.place.inbox.decode()
        return dict(self.plan.slow).get(name, 1.0) if self.now < self.plan.heal_s else 1.0

    def flush(self, node: StageNode | GatewayNode, inbox: Topic) -> None:
        """Publish what a node's core wants to say."""
        for topic, message in node.core.outbox.take():
            self.send(node, topic, message)

    def send(self, node: StageNode | GatewayNode, topic: Topic, message: Message) -> None:
        """Publish one message through the faulty network."""
        node.number += 1
        source = node.inbox if isinstance(node, GatewayNode) else node.core.place.inbox
        data = encode(Envelope(source, node.incarnation, node.number, message))
        sink = "gateway.g0." if topic == FLEET else topic.decode()
        faulty = self.now < self.plan.heal_s
        copies = 1
        if faulty:
            if self._is_cut(source.decode(), sink) or self.random.random() < self.plan.drop:
                return
            copies += self.random.random() < self.plan.duplicate
        for _ in range(copies):
            delay = self.random.uniform(0.0002, 0.001)
            if faulty and self.random.random() < self.plan.spike:
                delay += self.random.uniform(0, self.plan.max_spike_s)
            self.after(delay, lambda: self._deliver(sink, data))

    def _is_cut(self, source: Node, sink: Node) -> bool:
        return any(
            cut.start <= self.now < cut.end and cut.source in (source, "*") and cut.sink in (sink, "*")
            for cut in self.plan.cuts
        )

    def _deliver(self, sink: Node, data: bytes) -> None:
        node = self.nodes.get(sink)
        if node is not None:
            self.messages += 1
            node.receive(decode(data))

    # Clients

    def open(
        self, *, num_prompt: int, max_tokens: int, seed: int, stop_ids: tuple[int, ...] = ()
    ) -> SessionId:
        """A client asks for tokens; tries again while no target is ready."""
        session = SessionId(self.random.randbytes(16))
        prompt = tuple(TokenId(self.random.randrange(VOCAB)) for _ in range(num_prompt))
        expected = target_output(self.language, prompt, seed=seed, num_tokens=max_tokens, stop_ids=stop_ids)
        self.clients[session] = Client(expected, self.now)
        sampling = Sampling(max_tokens=max_tokens, seed=seed, stop_ids=stop_ids)

        def attempt() -> None:
            if self.gateway.core.fleet.target(self.now) is None:
                self.after(0.05, attempt)
                return
            self.gateway.core.open(self.now, session, prompt=prompt, sampling=sampling)
            self.gateway.turn()

        attempt()
        return session

    def cancel(self, session: SessionId) -> None:
        """The client goes away."""
        client = self.clients[session]
        if client.end is None:
            client.cancelled = True
            self.gateway.core.close(session, EndReason.CANCELLED)
            self.gateway.turn()

    def check_event(self, event: Event) -> None:
        """Invariants on everything that a client sees: exact, in order, once, nothing after the end."""
        if isinstance(event, Counted | Skewed):
            return
        client = self.clients[event.session]
        if client.end is not None:
            raise Violation(f"{event} after the end")
        if isinstance(event, Ended):
            client.end, client.ended_s = event.reason, self.now
            if not client.cancelled and client.received != client.expected:
                raise Violation(
                    f"ended with {len(client.received)} of {len(client.expected)} tokens: {event}"
                )
            return
        if event.start != len(client.received):
            raise Violation(f"position {event.start} after {len(client.received)} tokens")
        client.received.extend(event.tokens)
        if client.received != client.expected[: len(client.received)]:
            raise Violation(f"tokens differ from the target's own at or before {len(client.received)}")
