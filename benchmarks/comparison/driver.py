"""Our engine without services: a stage's core and a gateway's sessions, joined in one loop. Runs in a worker.

The work is cut by the same rules as in production (``StageReplica``); only the bus and the clients are missing.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from hashlib import blake2b
from itertools import count

from pipespec.engine.load import LoadedEngine, load_engine
from pipespec.ops.errors import InvariantBroken
from pipespec.ops.pipeline import StageSettings, TimerSettings
from pipespec.protocol.gateway_session import Commit, GatewaySession
from pipespec.protocol.ids import Incarnation, Rank, SessionId, TokenId, gateway_inbox
from pipespec.protocol.messages import ChainIdentity, Envelope, Message, Segment, State
from pipespec.protocol.place import Place
from pipespec.protocol.rules import Rules
from pipespec.protocol.sampling import Sampling
from pipespec.protocol.stage_replica import FreeCache, OpenCache, StageReplica
from pipespec.protocol.stage_session import StageLimits
from pipespec.protocol.timers import Timers

from .setup import Setup
from .workload import Report, Run, Workload, warm_then_run

GATEWAY = gateway_inbox("bench")
REPLICA = "r0"


def engine_alone(setup: Setup, workload: Workload, report: Report, *, at_once: int | None = None) -> Run:
    """All sessions through our engine; ``at_once`` of them at a time, all for None."""
    driver = Driver(load(setup), max_sessions=len(workload.prompts))
    return warm_then_run(lambda load, tell: driver.run(load, tell, at_once=at_once), workload, report)


def load(setup: Setup, *, cache_gib: float | None = None) -> LoadedEngine:
    """The engine of a target stage, with its default settings but for the size of its cache."""
    return load_engine(target_settings(setup, cache_gib=cache_gib))


def target_settings(setup: Setup, *, cache_gib: float | None = None) -> StageSettings:
    """A stage that runs the model."""
    return StageSettings(
        model=str(setup.folder),
        device=setup.device,
        dtype=setup.dtype,
        threads=setup.threads,
        cache_gib=cache_gib,
    )


class Driver:
    """Runs workloads on one engine.

    Args:
        loaded: the engine.
        max_sessions: at once, at most.
    """

    def __init__(self, loaded: LoadedEngine, *, max_sessions: int) -> None:
        self.engine = loaded.engine
        self._identity = ChainIdentity(weights=loaded.weights, tokenizer=loaded.tokenizer)
        place = Place(
            rank=Rank(0),
            replica=REPLICA,
            num_stages=1,
            weights=loaded.weights,
            tokenizer=loaded.tokenizer,
            vocab_size=self.engine.vocab_size,
            max_sessions=max_sessions,
        )
        limits = StageLimits(
            lookahead=1, max_chunk=self.engine.max_chunk, context_len=self.engine.context_len
        )
        self._core = StageReplica(place, limits, Timers.of(TimerSettings()))
        self._numbers = count(1)
        self._sessions: dict[SessionId, GatewaySession] = {}

    def run(self, workload: Workload, report: Report, *, at_once: int | None = None) -> Run:
        """Serve a workload to its end.

        Raises:
            InvariantBroken: sessions are open but there is no work.
        """
        started_s = time.perf_counter()
        sessions = [self._session(prompt, workload) for prompt in workload.prompts]
        first_s: dict[SessionId, float] = {}
        waiting = list(reversed(sessions))
        while waiting or self._sessions:
            while waiting and len(self._sessions) < (at_once or len(sessions)):
                self._open(waiting.pop())
            for session in self._turn():
                first_s.setdefault(session.session, time.perf_counter() - started_s)
            report(sum(session.committed for session in sessions) / (workload.max_tokens * len(sessions)))
        return Run(
            tuple(session.tokens(0, session.committed) for session in sessions),
            tuple(first_s[session.session] for session in sessions),
            time.perf_counter() - started_s,
        )

    def _session(self, prompt: tuple[int, ...], workload: Workload) -> GatewaySession:
        number = next(self._numbers)
        return GatewaySession(
            SessionId(blake2b(number.to_bytes(8), digest_size=16).digest()),
            now=0.0,
            prompt=tuple(map(TokenId, prompt)),
            sampling=Sampling(max_tokens=workload.max_tokens, stop_ids=workload.stop_ids),
            identity=self._identity,
            vocab_size=self.engine.vocab_size,
            route=(REPLICA,),
            speculate=False,
            rules=Rules(),
        )

    def _open(self, session: GatewaySession) -> None:
        self._sessions[session.session] = session
        self._tell(session.open_message())

    def _tell(self, message: Message) -> None:
        self._core.on_envelope(
            time.monotonic(), Envelope(GATEWAY, Incarnation(1), next(self._numbers), message)
        )

    def _turn(self) -> Iterable[GatewaySession]:
        """One step of the engine; the sessions that got tokens."""
        engine, now = self.engine, time.monotonic()
        batch = self._core.work(now, max_batch=engine.max_batch, max_tokens=engine.max_step_tokens)
        self._carry_out()
        if not batch:
            raise InvariantBroken(f"{len(self._sessions)} sessions are open, but none has work")
        for work, outcome in zip(batch, engine.step(batch), strict=True):
            self._core.on_outcome(now, work, outcome, busy_us=0)
        moved = [
            self._commit(message) for _, message in self._core.outbox.take() if isinstance(message, Segment)
        ]
        self._carry_out()
        return [session for session in moved if session is not None]

    def _commit(self, segment: Segment) -> GatewaySession | None:
        session = self._sessions[segment.session]
        if session.on_segment(0.0, segment) is not Commit.EXTENDED:
            return None
        if session.end is None:
            self._tell(State(entries=(session.state_entry(),)))
        else:
            del self._sessions[session.session]
            self._tell(session.close_message(session.end))
        return session

    def _carry_out(self) -> None:
        orders, self._core.orders = self._core.orders, []
        for order in orders:
            match order:
                case OpenCache(message=message):
                    self.engine.open(message.session, prompt=message.prompt, sampling=message.sampling)
                case FreeCache(session=session):
                    self.engine.close(session)
