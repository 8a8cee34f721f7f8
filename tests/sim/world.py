"""The planner's world with faults: virtual time, a faulty network, and the protocol core exactly as the services run it.

One seeded ``Random``, no wall clock, no dependence on hash seeds: a failing seed reproduces itself. Messages go through the
real codec.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from random import Random

from pipespec.planner.simulation.nodes import GatewayNode, StageNode, StepLimits
from pipespec.planner.simulation.world import Copy, World
from pipespec.protocol.codec import decode, encode
from pipespec.protocol.fleet import Fleet
from pipespec.protocol.gateway_replica import Counted, Ended, Event, GatewayReplica, Skewed
from pipespec.protocol.ids import Incarnation, Rank, SessionId, TokenId, Topic, gateway_inbox, stage_inbox
from pipespec.protocol.messages import EndReason, Envelope
from pipespec.protocol.place import Place
from pipespec.protocol.rules import Rules
from pipespec.protocol.sampling import Sampling
from pipespec.protocol.stage_replica import StageReplica
from pipespec.protocol.stage_session import StageLimits
from pipespec.protocol.timers import Timers
from pipespec.protocol.work import Work
from sim.model import CONTEXT, VOCAB, HashModel, language_of, target_output
from sim.plan import Plan

TIMERS = Timers(heartbeat_s=0.05, dead_s=0.3, stall_s=1.0, lease_s=3.0, sync_s=0.025)
TICK_S = 0.025
WINDOW = 20
"""Uncommitted tokens at most; small, so that back-pressure is reached."""
TOKENIZER = bytes(range(16))
WEIGHTS = b"w" * 16
GATEWAY = gateway_inbox("g0")


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


class FaultyNetwork:
    """Loses, doubles and delays as the plan says; what arrives has gone through the codec."""

    def __init__(self, random: Random, plan: Plan) -> None:
        self._random = random
        self._plan = plan

    def carry(self, now: float, envelope: Envelope, sink: Topic) -> Iterable[Copy]:
        """None, one or two copies, each after a time of its own."""
        random, plan = self._random, self._plan
        faulty = now < plan.heal_s
        copies = 1
        if faulty:
            if self._is_cut(now, envelope.sender, sink) or random.random() < plan.drop:
                return
            copies += random.random() < plan.duplicate
        arriving = decode(encode(envelope))
        for _ in range(copies):
            delay_s = random.uniform(0.0002, 0.001)
            if faulty and random.random() < plan.spike:
                delay_s += random.uniform(0, plan.max_spike_s)
            yield delay_s, arriving

    def _is_cut(self, now: float, source: Topic, sink: Topic) -> bool:
        return any(
            cut.start <= now < cut.end
            and cut.source in (source.decode(), "*")
            and cut.sink in (sink.decode(), "*")
            for cut in self._plan.cuts
        )


class MoodyDevice(HashModel):
    """Computes a stage's steps, now slower, now faster, and slower still where the plan says so."""

    def __init__(self, world: FaultyWorld, rank: int, inbox: Topic, spec: StageSpec) -> None:
        super().__init__(world.language, rank, is_model_free=spec.is_model_free)
        self._world = world
        self._inbox = inbox
        self._step_s = spec.step_s

    def seconds(self, batch: Sequence[Work]) -> float:
        """How long the step takes, however large it is."""
        del batch
        world = self._world
        slow = dict(world.plan.slow).get(self._inbox.decode(), 1.0) if world.now < world.plan.heal_s else 1.0
        return self._step_s * slow * world.random.uniform(0.9, 1.1)


class FaultyWorld(World):
    """One run: a chain, a plan, some clients."""

    def __init__(
        self, seed: int, plan: Plan, *, chain: Sequence[StageSpec] = DEFAULT_CHAIN, rules: Rules | None = None
    ) -> None:
        self.random = Random(seed)
        super().__init__(FaultyNetwork(self.random, plan), tick_s=TICK_S)
        self.plan, self.chain, self.rules = plan, chain, rules or Rules()
        self.language = language_of([spec.agreement for spec in chain[:-1]])
        self.clients: dict[SessionId, Client] = {}
        fleet = Fleet(num_stages=len(chain), tokenizer=TOKENIZER, timers=TIMERS)
        core = GatewayReplica(fleet, TIMERS, self.rules)
        self.gateway = GatewayNode(self, core, GATEWAY, self._incarnation(), on_event=self.check_event)
        self.join(self.gateway, first_tick_s=self.random.uniform(0, TICK_S))
        for rank, spec in enumerate(chain):
            for index in range(spec.replicas):
                self._start_stage(stage_inbox(Rank(rank), f"r{index}"))
        for restart in plan.restarts:
            self.after(restart.at, lambda r=restart: self._crash(r.node.encode(), r.down_s))  # type: ignore[misc] # mypy does not infer lambdas with defaults

    def _incarnation(self) -> Incarnation:
        return Incarnation(self.random.getrandbits(64))

    def _start_stage(self, inbox: Topic) -> None:
        _, rank, replica, _ = inbox.decode().split(".")
        spec = self.chain[int(rank)]
        place = Place(
            rank=Rank(int(rank)),
            replica=replica,
            num_stages=len(self.chain),
            weights=WEIGHTS,
            tokenizer=TOKENIZER,
            vocab_size=VOCAB,
        )
        limits = StageLimits(
            lookahead=spec.lookahead,
            max_chunk=16,
            context_len=CONTEXT,
            is_model_free=spec.is_model_free,
            max_window=WINDOW,
        )
        node = StageNode(
            self,
            StageReplica(place, limits, TIMERS, self.rules),
            MoodyDevice(self, int(rank), inbox, spec),
            StepLimits(max_batch=spec.max_batch, max_tokens=spec.max_tokens),
            self._incarnation(),
        )
        self.join(node, first_tick_s=self.random.uniform(0, TICK_S))

    def _crash(self, inbox: Topic, down_s: float) -> None:
        self.leave(inbox)
        self.after(down_s, lambda: self._start_stage(inbox))

    @property
    def stages(self) -> list[StageNode]:
        """Stage replicas that run now."""
        return [node for node in self.nodes.values() if isinstance(node, StageNode)]

    # Clients

    def open(
        self, *, num_prompt: int, max_tokens: int, seed: int, stop_ids: tuple[int, ...] = ()
    ) -> SessionId:
        """A client asks for tokens; tries again while no target is ready."""
        session = SessionId(self.random.randbytes(16))
        prompt = tuple(TokenId(self.random.randrange(VOCAB)) for _ in range(num_prompt))
        expected = target_output(self.language, prompt, seed=seed, num_tokens=max_tokens, stop_ids=stop_ids)
        self.clients[session] = Client(expected, self.now)
        sampling = Sampling(max_tokens=max_tokens, temperature=1.0, seed=seed, stop_ids=stop_ids)

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
