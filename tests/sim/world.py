"""The planner's world with faults: virtual time, a faulty network, and the protocol core exactly as the services run it.

One seeded ``Random``, no wall clock, no dependence on hash seeds: a failing case reproduces itself. Every node has a clock of
its own, may crash, freeze (it reads and says nothing) or hang (it beats, but its loop stands still).
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable
from dataclasses import replace
from random import Random

from pipespec.ops.errors import Overloaded, Unavailable
from pipespec.planner.simulation.nodes import GatewayNode, StageNode, StepLimits
from pipespec.planner.simulation.world import Node, World
from pipespec.protocol.fleet import Fleet
from pipespec.protocol.gateway_replica import Event, GatewayReplica
from pipespec.protocol.ids import Incarnation, Rank, SessionId, TokenId, Topic, gateway_inbox
from pipespec.protocol.messages import EndReason, Envelope, Open
from pipespec.protocol.place import Place
from pipespec.protocol.rules import Rules
from pipespec.protocol.sampling import Sampling
from pipespec.protocol.stage_replica import StageReplica
from pipespec.protocol.stage_session import StageLimits
from pipespec.protocol.timers import Timers
from sim.clients import Client
from sim.invariants import WINDOW, Watch
from sim.model import CONTEXT, VOCAB, MoodyDevice, Voices, voices_of
from sim.network import FaultyNetwork
from sim.plan import Case, Request, StageSpec

TICK_S = 0.025
TOKENIZER, OTHER_TOKENIZER = bytes(range(16)), bytes(range(1, 17))
WEIGHTS, OTHER_WEIGHTS = b"w" * 16, b"x" * 16


class FaultyWorld(World):
    """One run of a case."""

    def __init__(self, case: Case, rules: Rules | None = None) -> None:
        self.case, self.rules = case, rules or Rules()
        self.random = Random(case.seed)
        self.network = FaultyNetwork(self.random, case.plan, self.rules)
        self.watch = Watch(case)
        super().__init__(self.network, tick_s=TICK_S, witness=self.watch)
        self.faults: Counter[str] = self.network.faults
        self.unserved = 0
        self._timers = Timers(**vars(case.timers))
        self._voices = {
            weights: voices_of([spec.agreement for spec in case.chain[:-1]], fork=case.fork, seed=seed)
            for seed, weights in enumerate((WEIGHTS, OTHER_WEIGHTS))
        }
        self._clocks = {clock.node.encode(): (clock.origin_s, clock.rate) for clock in case.plan.clocks}
        self._slow = {node.encode(): factor for node, factor in case.plan.slow}
        self._frozen: dict[Topic, float] = {}
        self._hung: dict[Topic, float] = {}
        self._backlog: dict[Topic, deque[Envelope]] = {}
        for index in range(case.gateways):
            self._start_gateway(gateway_inbox(f"g{index}"))
        for inbox in case.stages():
            self._start_stage(inbox)
        self._schedule()

    def _schedule(self) -> None:
        def at(when_s: float, action: Callable[..., None], *arguments: object) -> None:
            self.after(when_s, lambda: action(*arguments))

        plan = self.case.plan
        for restart in plan.restarts:
            at(restart.at, self._crash, restart.node.encode(), restart.down_s, restart.skew)
        for kind, spans in (("frozen", plan.freezes), ("hung", plan.hangs)):
            for span in spans:
                at(span.start, self._rest, kind, span.node.encode(), span.end)
        for leap in plan.leaps:
            at(leap.at, self._leap, leap.node.encode(), leap.by_s)
        for joiner in plan.joiners:
            at(joiner.at, self._start_stage, joiner.node.encode(), joiner.skew)
        self.faults["slowed"] += len(plan.slow)
        for request in self.case.requests:
            at(request.at_s, self._come, request)

    # Nodes

    def _start_gateway(self, inbox: Topic) -> None:
        fleet = Fleet(
            num_stages=len(self.case.chain), tokenizer=TOKENIZER, timers=self._timers, rules=self.rules
        )
        core = GatewayReplica(fleet, self._timers, self.rules)

        def tell(event: Event) -> None:
            self.watch.now = self.now
            self.watch.on_event(node, event)

        node = GatewayNode(self, core, inbox, self._incarnation(), on_event=tell)
        self._begin(node)

    def _start_stage(self, inbox: Topic, skew: str = "") -> None:
        _, rank, replica, _ = inbox.decode().split(".")
        spec = self.case.chain[int(rank)]
        place = Place(
            rank=Rank(int(rank)),
            replica=replica,
            num_stages=len(self.case.chain),
            weights=OTHER_WEIGHTS if skew == "weights" else WEIGHTS,
            tokenizer=OTHER_TOKENIZER if skew == "tokenizer" else TOKENIZER,
            vocab_size=VOCAB,
        )
        limits = StageLimits(
            lookahead=spec.lookahead,
            max_chunk=16,
            context_len=CONTEXT,
            is_model_free=spec.is_model_free,
            max_window=WINDOW,
        )
        if skew:
            self.faults[f"joined_with_other_{skew}"] += 1
            self.watch.foreign[inbox] = skew
        else:
            self.watch.foreign.pop(inbox, None)
        node = StageNode(
            self,
            StageReplica(place, limits, self._timers, self.rules),
            self._device(inbox, spec, int(rank), self._voices[OTHER_WEIGHTS if skew else WEIGHTS]),
            StepLimits(max_batch=spec.max_batch, max_tokens=spec.max_tokens),
            self._incarnation(),
            heartbeat_s=self.case.timers.heartbeat_s,
        )
        self._begin(node)

    def _device(self, inbox: Topic, spec: StageSpec, rank: int, voices: Voices) -> MoodyDevice:
        slow, heal_s, random = self._slow.get(inbox, 1.0), self.case.plan.heal_s, self.random

        def seconds() -> float:
            return spec.step_s * (slow if self.now < heal_s else 1.0) * (0.9 + 0.2 * random.random())

        index = int(inbox.decode().split(".")[2][1:])
        return MoodyDevice(
            voices,
            rank,
            index,
            is_model_free=spec.is_model_free,
            has_moods=self.case.moods,
            step_seconds=seconds,
        )

    def _incarnation(self) -> Incarnation:
        return Incarnation(self.random.getrandbits(64))

    def _begin(self, node: StageNode | GatewayNode) -> None:
        if self.case.plan.deaf_s and (self.now > 0 or self.random.random() < 0.5):
            self.network.deaf_until[node.inbox] = self.now + self.case.plan.deaf_s
        self.join(node, first_tick_s=self.random.uniform(0, TICK_S))

    def _crash(self, inbox: Topic, down_s: float, skew: str) -> None:
        node = self.nodes.get(inbox)
        if node is None:
            return
        self.faults["gateway_crashed" if isinstance(node, GatewayNode) else "stage_crashed"] += 1
        self.leave(inbox)
        for table in (self._frozen, self._hung, self._backlog):
            table.pop(inbox, None)
        if isinstance(node, GatewayNode):
            for session in node.core.sessions:
                client = self.watch.clients[session]
                client.is_cut, client.ended_s = True, self.now
            self.after(down_s, lambda: self._start_gateway(inbox))
        else:
            self.after(down_s, lambda: self._start_stage(inbox, skew))

    def _rest(self, kind: str, inbox: Topic, until_s: float) -> None:
        if self.nodes.get(inbox) is None:
            return
        self.faults[kind] += 1
        resting = self._frozen if kind == "frozen" else self._hung
        resting[inbox] = max(until_s, resting.get(inbox, 0.0))
        self.after(until_s - self.now, lambda: self._wake(inbox))

    def _wake(self, inbox: Topic) -> None:
        for resting in (self._frozen, self._hung):
            if resting.get(inbox, self.now + 1) <= self.now:
                del resting[inbox]
        node = self.nodes.get(inbox)
        if node is None or self._rests(inbox):
            return
        self.watch.now = self.now
        if isinstance(node, GatewayNode):
            self.watch.heard(inbox)
        if self.random.random() < 0.5:
            self._tick_now(node)
        for envelope in self._backlog.pop(inbox, ()):
            self.faults["replayed"] += 1
            self._deliver(inbox, envelope)

    def _rests(self, inbox: Topic) -> bool:
        return inbox in self._frozen or inbox in self._hung

    def _leap(self, inbox: Topic, by_s: float) -> None:
        self.faults["clock_leapt"] += 1
        origin_s, rate = self._clocks.get(inbox, (0.0, 1.0))
        self._clocks[inbox] = (origin_s + by_s, rate)
        self.watch.now = self.now
        self.watch.heard(inbox)

    # What the planner's world asks

    def clock(self, inbox: Topic) -> float:
        """The node's own monotonic clock."""
        mine = self._clocks.get(inbox)
        return self.now if mine is None else mine[0] + mine[1] * self.now

    def after_step(self, node: Node, seconds: float, action: Callable[[], None]) -> None:
        """As the planner's, but a node that is frozen or hangs goes on later."""

        def end() -> None:
            inbox = node.inbox
            if not self.is_alive(node):
                return
            if (self._frozen or self._hung) and self._rests(inbox):
                self.after(max(self._frozen.get(inbox, 0.0), self._hung.get(inbox, 0.0)) - self.now, end)
                return
            self.watch.now = self.now
            action()

        self.after(seconds, end)

    def _deliver(self, sink: Topic, envelope: Envelope) -> None:
        node = self.nodes.get(sink)
        if node is None:
            return
        if (self._frozen or self._hung) and self._rests(sink):
            self._keep(sink, envelope)
            return
        self.messages += 1
        self.watch.now = self.now
        if isinstance(node, GatewayNode):
            self.watch.on_target_beat(sink, envelope)
            node.receive(envelope)
            self.watch.on_gateway(node)
        else:
            assert isinstance(node, StageNode)
            if sink in self.watch.misreading:
                envelope = self._misread(envelope)
            node.receive(envelope)
            self.watch.on_stage(node, envelope)

    def _misread(self, envelope: Envelope) -> Envelope:
        """What a damaged memory makes of a message after its seal was checked."""
        message = envelope.message
        if not isinstance(message, Open) or self.now >= self.case.plan.heal_s or self.random.random() < 0.5:
            return envelope
        self.faults["misread"] += 1
        wrong = TokenId((message.prompt[0] + 1) % VOCAB)
        return replace(envelope, message=replace(message, prompt=(wrong, *message.prompt[1:])))

    def _keep(self, sink: Topic, envelope: Envelope) -> None:
        """What waits for a frozen node waits in the broker, which drops the newest; a hung one's own inbox, the oldest."""
        backlog = self._backlog.setdefault(sink, deque())
        if len(backlog) >= self.case.plan.hwm:
            self.faults["overflowed"] += 1
            if sink in self._frozen:
                return
            backlog.popleft()
        backlog.append(envelope)

    def _tick(self, inbox: Topic) -> None:
        node = self.nodes[inbox]
        if node is not None and inbox not in self._frozen:
            self.watch.now = self.now
            if inbox not in self._hung:
                self._tick_now(node)
            elif isinstance(node, StageNode):
                node.beat()
        self.after(TICK_S, lambda: self._tick(inbox))

    def _tick_now(self, node: Node) -> None:
        node.tick()
        if isinstance(node, GatewayNode):
            self.watch.on_gateway(node)

    def tick_awake(self) -> None:
        """All that do not rest look at their clocks: who woke a moment ago has not yet seen which leases ran out."""
        self.watch.now = self.now
        for node in (*self.gateways, *self.awake):
            if not self._rests(node.inbox):
                self._tick_now(node)

    @property
    def stages(self) -> list[StageNode]:
        """Stage replicas that run now."""
        return [node for node in self.nodes.values() if isinstance(node, StageNode)]

    @property
    def gateways(self) -> list[GatewayNode]:
        """Gateways that run now."""
        return [node for node in self.nodes.values() if isinstance(node, GatewayNode)]

    @property
    def awake(self) -> list[StageNode]:
        """Stage replicas that neither rest nor are dead."""
        return [node for node in self.stages if not self._rests(node.inbox)]

    # Clients

    def _come(self, request: Request) -> None:
        """A client asks for tokens; it tries again while there is no gateway or no target."""
        inbox = gateway_inbox(f"g{request.gateway}")
        node = self.nodes.get(inbox)
        if node is None or self._rests(inbox):
            self._come_later(request)
            return
        assert isinstance(node, GatewayNode)
        session_id = SessionId(self.random.randbytes(16))
        prompt = tuple(TokenId(self.random.randrange(VOCAB)) for _ in range(request.num_prompt))
        sampling = Sampling(
            max_tokens=request.max_tokens, temperature=1.0, seed=request.seed, stop_ids=request.stop_ids
        )
        try:
            session = node.core.open(self.clock(inbox), session_id, prompt=prompt, sampling=sampling)
        except (Unavailable, Overloaded):
            self._come_later(request)
            return
        self.watch.clients[session_id] = Client.of(
            session_id,
            request,
            gateway=inbox,
            voices=self._voices[session.identity.weights],
            num_targets=self.case.chain[-1].replicas,
            identity=session.identity,
            prompt=prompt,
            now=self.now,
        )
        node.turn()
        self.after(request.cancel_s, lambda: self._cancel(session_id))

    def _come_later(self, request: Request) -> None:
        self.unserved += 1
        self.after(0.05, lambda: self._come_again(request))

    def _come_again(self, request: Request) -> None:
        self.unserved -= 1
        self._come(request)

    def _cancel(self, session_id: SessionId) -> None:
        """The client goes away, unless it was served."""
        client = self.watch.clients[session_id]
        node = self.nodes.get(client.gateway)
        if client.is_over or not isinstance(node, GatewayNode) or self._rests(client.gateway):
            return
        self.faults["cancelled"] += 1
        client.is_cancelled = True
        self.watch.now = self.now
        node.core.close(session_id, EndReason.CANCELLED)
        node.turn()

    @property
    def all_served(self) -> bool:
        """Every client has come and has its end."""
        return (
            self.unserved == 0
            and len(self.watch.clients) == len(self.case.requests)
            and all(client.is_over for client in self.watch.clients.values())
        )
