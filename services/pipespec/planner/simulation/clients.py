"""Sessions of a simulated load: when they come, and when their tokens arrive."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from pipespec.ops.errors import InvariantBroken
from pipespec.planner.arrivals import Arrivals
from pipespec.planner.simulation.nodes import GatewayNode
from pipespec.planner.simulation.world import World
from pipespec.protocol.gateway_replica import Committed, Ended, Event
from pipespec.protocol.ids import SessionId, TokenId
from pipespec.protocol.messages import EndReason
from pipespec.protocol.sampling import Sampling


@dataclass(frozen=True, slots=True)
class Request:
    """One session to be.

    Attributes:
        prompt: token ids.
        max_tokens: to generate, exactly.
        at_s: when it comes.
        speculate: False leaves the drafts out.
    """

    prompt: tuple[int, ...]
    max_tokens: int
    at_s: float = 0.0
    speculate: bool = True


@dataclass(slots=True)
class _Stream:
    began_s: float
    tokens: list[int] = field(default_factory=list)
    at_s: list[float] = field(default_factory=list)
    end: EndReason | None = None


class Clients:
    """All clients of one gateway."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._streams: dict[SessionId, _Stream] = {}
        self._open = 0

    @property
    def all_served(self) -> bool:
        """Every session has ended."""
        return self._open == 0

    def send(self, gateway: Callable[[], GatewayNode], requests: Sequence[Request]) -> None:
        """Open the sessions when their time comes."""
        self._open += len(requests)
        for request in requests:
            session = SessionId(len(self._streams).to_bytes(16, "big"))
            self._streams[session] = _Stream(self._world.now + request.at_s)
            self._world.after(request.at_s, lambda s=session, r=request: self._begin(gateway(), s, r))  # type: ignore[misc] # mypy does not infer lambdas with defaults

    def _begin(self, gateway: GatewayNode, session: SessionId, request: Request) -> None:
        gateway.core.open(
            self._world.now,
            session,
            prompt=tuple(TokenId(token) for token in request.prompt),
            sampling=Sampling(max_tokens=request.max_tokens, temperature=0.0),
            speculate=request.speculate,
        )
        gateway.turn()

    def on_event(self, event: Event) -> None:
        """What the gateway tells its clients."""
        match event:
            case Committed(session=session, tokens=tokens):
                stream = self._streams[session]
                stream.tokens.extend(tokens)
                stream.at_s.extend([self._world.now - stream.began_s] * len(tokens))
            case Ended(session=session, reason=reason):
                self._streams[session].end = reason
                self._open -= 1
            case _:
                pass

    def arrivals(self) -> tuple[Arrivals, ...]:
        """Of all sessions, in the order of their requests.

        Raises:
            InvariantBroken: one was cut.
        """
        for stream in self._streams.values():
            if stream.end not in (EndReason.LENGTH, EndReason.STOP):
                raise InvariantBroken(
                    f"a simulated session ended with {stream.end} after {len(stream.tokens)} tokens"
                )
        return tuple(Arrivals(tuple(s.tokens), tuple(s.at_s)) for s in self._streams.values())
