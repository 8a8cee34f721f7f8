"""A whole emulated pipeline in virtual time, from its settings to its clients' tokens.

Every node runs the protocol core of the services; only sockets, threads and sleeping are replaced. So what is simulated is
what would run, but for the time that the services themselves take, which is set: see ``Overheads``.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from pipespec.emulation.chain import curve_of, emulation_of, language_of
from pipespec.emulation.speaker import Speaker
from pipespec.emulation.vocabulary import VOCAB_SIZE
from pipespec.ops.errors import InvariantBroken
from pipespec.ops.pipeline import Pipeline
from pipespec.planner.arrivals import LoadResult
from pipespec.planner.simulation.clients import Clients, Request
from pipespec.planner.simulation.devices import CurveDevice
from pipespec.planner.simulation.nodes import GatewayNode, StageNode, StepLimits
from pipespec.planner.simulation.world import Copy, Witness, World
from pipespec.protocol.fleet import Fleet
from pipespec.protocol.gateway_replica import GatewayReplica
from pipespec.protocol.ids import Incarnation, Rank, Topic, gateway_inbox
from pipespec.protocol.messages import Envelope, StepShare
from pipespec.protocol.pace import pace_of
from pipespec.protocol.place import Place
from pipespec.protocol.placement import Placement
from pipespec.protocol.stage_replica import StageReplica
from pipespec.protocol.stage_session import StageLimits
from pipespec.protocol.timers import Timers


@dataclass(frozen=True, slots=True)
class Overheads:
    """What services and bus add; the defaults are measured by ``pipespec bench paper`` on one machine, 2-core AMD EPYC.

    Attributes:
        bus_s: seconds from a publication to the receiver's loop.
        step_s: that a step takes longer than on its device alone, the stage's own work included.
    """

    bus_s: float = 0.0003
    step_s: float = 0.0004


MEASURED = Overheads()
NO_OVERHEADS = Overheads(0.0, 0.0)
_WEIGHTS = b"simulated target"
"""A digest of 16 bytes, alike for all: replicas of one chain."""


@dataclass(frozen=True, slots=True)
class StageLoad:
    """What one stage did, over all its replicas.

    Attributes:
        busy: share of the replicas' time in steps, 0 to 1.
        steps: made.
        accepted: candidates of the earlier stage that were right.
        judged: candidates that were found right or wrong.
    """

    busy: float
    steps: int
    accepted: int
    judged: int


@dataclass(frozen=True, slots=True)
class SimulationResult:
    """What a simulated load brought.

    Attributes:
        load: the clients' side.
        stages: by rank.
        messages: delivered in all.
    """

    load: LoadResult
    stages: tuple[StageLoad, ...]
    messages: int

    @property
    def ms_per_token(self) -> float:
        """Mean over the sessions, from the first token to the last."""
        sessions = self.load.sessions
        return sum(one.ms_per_token for one in sessions) / len(sessions)


class SteadyNetwork:
    """Every message arrives once, after the same time."""

    def __init__(self, delay_s: float) -> None:
        self._delay_s = delay_s

    def carry(self, now: float, envelope: Envelope, sink: Topic) -> Iterable[Copy]:
        """One copy."""
        del now, sink
        return ((self._delay_s, envelope),)


class _Tally(Witness):
    """Counts steps by stage."""

    def __init__(self, num_stages: int) -> None:
        self.busy_s = [0.0] * num_stages
        self.steps = [0] * num_stages
        self.accepted = [0] * num_stages
        self.judged = [0] * num_stages

    def on_step(
        self, rank: int, *, inbox: Topic, began_s: float, ended_s: float, shares: Sequence[StepShare]
    ) -> None:
        """Count one."""
        del inbox
        self.busy_s[rank] += ended_s - began_s
        self.steps[rank] += 1
        for share in shares:
            self.accepted[rank] += share.accepted
            self.judged[rank] += min(share.candidates, share.accepted + 1)


def simulate(
    pipeline: Pipeline,
    requests: Sequence[Request],
    *,
    overheads: Overheads = MEASURED,
    placement: Placement | None = None,
) -> SimulationResult:
    """Serve a load.

    Args:
        pipeline: of emulated stages; who waits for candidates is among its settings.
        requests: at least one, each for at least one token.
        overheads: of services and bus.
        placement: chooses the replicas of a session.

    Raises:
        SettingsError: a stage is not emulated.
        Overloaded: more sessions come at once than the replicas may hold.
        InvariantBroken: a session did not end.
    """
    tally = _Tally(len(pipeline.stages))
    timers = Timers.of(pipeline.timers)
    world = World(SteadyNetwork(overheads.bus_s), tick_s=timers.heartbeat_s / 2, witness=tally)
    clients = Clients(world)
    gateway = _gateway(world, pipeline, placement, clients)
    world.join(gateway)
    for node in _stages(world, pipeline, overheads):
        world.join(node)
    world.run(2 * overheads.bus_s)
    began_s = world.now
    clients.send(lambda: gateway, requests)
    if not world.run(began_s + _patience_s(pipeline, requests), done=lambda: clients.all_served):
        raise InvariantBroken("a simulated load does not end; please report this, with the pipeline file")
    elapsed_s = world.now - began_s
    stages = tuple(
        StageLoad(
            busy=tally.busy_s[rank] / (elapsed_s * stage.replicas),
            steps=tally.steps[rank],
            accepted=tally.accepted[rank],
            judged=tally.judged[rank],
        )
        for rank, stage in enumerate(pipeline.stages)
    )
    return SimulationResult(LoadResult(clients.arrivals(), elapsed_s), stages, world.messages)


def _gateway(world: World, pipeline: Pipeline, placement: Placement | None, clients: Clients) -> GatewayNode:
    timers = Timers.of(pipeline.timers)
    fleet = Fleet(num_stages=len(pipeline.stages), tokenizer=b"", timers=timers, placement=placement)
    core = GatewayReplica(fleet, timers)
    return GatewayNode(world, core, gateway_inbox("g0"), Incarnation(1), on_event=clients.on_event)


def _stages(world: World, pipeline: Pipeline, overheads: Overheads) -> Iterable[StageNode]:
    timers = Timers.of(pipeline.timers)
    for rank, stage in enumerate(pipeline.stages):
        emulation, language = emulation_of(stage), language_of(pipeline.stages[rank:])
        limits = StageLimits(
            lookahead=stage.lookahead, max_chunk=stage.prefill_chunk, context_len=emulation.context_len
        )
        for index in range(stage.replicas):
            place = Place(
                Rank(rank),
                f"r{index}",
                num_stages=len(pipeline.stages),
                weights=_WEIGHTS,
                vocab_size=VOCAB_SIZE,
                max_sessions=stage.max_sessions,
            )
            pace = pace_of(candidates=stage.wait_for, wait_s=stage.wait_ms / 1000)
            yield StageNode(
                world,
                StageReplica(place, limits, timers, pace=pace),
                CurveDevice(
                    Speaker(language, rank=0),
                    curve_of(stage),
                    context_len=emulation.context_len,
                    overhead_s=overheads.step_s,
                ),
                StepLimits(max_batch=stage.max_batch, max_tokens=stage.step_tokens),
                Incarnation(1),
                heartbeat_s=timers.heartbeat_s,
            )


def _patience_s(pipeline: Pipeline, requests: Sequence[Request]) -> float:
    """More than any load takes: all tokens one after another, each with a step of every stage."""
    tokens = sum(len(request.prompt) + request.max_tokens for request in requests)
    slowest_ms = sum(curve_of(stage).ms(stage.step_tokens, stage.max_batch) for stage in pipeline.stages)
    return 60.0 + max(request.at_s for request in requests) + 2 * tokens * slowest_ms / 1000
