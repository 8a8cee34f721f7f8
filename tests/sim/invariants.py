"""What must hold after every event, whatever is lost, late, damaged or dead: I1 to I8 of the specification.

The checks look at what clients get and at what the cores hold; they never look at why a core did something. An event is
checked where it happened: the sessions that it names, at the node that it reached.
"""

from __future__ import annotations

from collections.abc import Sequence

from pipespec.planner.simulation.nodes import GatewayNode, StageNode
from pipespec.planner.simulation.world import Witness
from pipespec.protocol.gateway_replica import Committed, Ended, Event
from pipespec.protocol.ids import SessionId, Topic
from pipespec.protocol.messages import (
    Close,
    EndReason,
    Envelope,
    Heartbeat,
    Open,
    Segment,
    State,
    StepShare,
    Sync,
)
from pipespec.protocol.stage_session import StageSession
from sim.clients import Client, Violation
from sim.plan import Case

WINDOW = 20
"""Uncommitted tokens of a session at a stage at most; small, so that back-pressure is reached."""
AGREE_S = 0.4
"""A stage that nothing hinders hears of a commit within this; several heartbeats."""
_SYNC_BURST = 2
"""A stage that does not know a session asks, opens it, and may be behind already."""
_MESSAGES_PER_TOKEN, _MESSAGES_PER_HEARTBEAT = 12, 4


class Watch(Witness):
    """Sees every event of a world. Raises ``Violation`` at the first one that breaks an invariant."""

    def __init__(self, case: Case) -> None:
        self.clients: dict[SessionId, Client] = {}
        self.foreign: dict[Topic, str] = {}
        """Replicas that do not belong to the chain, with what differs."""
        self.misreading = frozenset(node.encode() for node in case.plan.misreads)
        self.now = 0.0
        self.said = 0
        """Messages about sessions."""
        self._case = case
        self._closed: dict[tuple[Topic, SessionId], tuple[int, float, object]] = {}
        self._said_by_target: dict[tuple[Topic, SessionId], tuple[StageSession, int]] = {}
        self._past: dict[SessionId, list[tuple[float, int, int]]] = {}
        self._asked: dict[tuple[Topic, int, SessionId], list[float]] = {}
        self._target_heard_s: dict[tuple[Topic, bytes], float] = {}
        self._voices: dict[tuple[Topic, Topic], dict[int, float]] = {}
        self._woke_s: dict[Topic, float] = {}
        self._slack_s = self._slack_of(case)

    @staticmethod
    def _slack_of(case: Case) -> float:
        """What is said of a session may arrive so long after its end, and extend its lease."""
        plan = case.plan
        rests = [span.end - span.start for span in (*plan.freezes, *plan.hangs)]
        crowds = [plan.hwm * crowd.service_s for crowd in plan.crowds]
        return 0.5 + plan.max_spike_s + sum(rests) + sum(crowds)

    # Gateways

    def on_event(self, gateway: GatewayNode, event: Event) -> None:
        """Something that a gateway tells its clients."""
        match event:
            case Committed(session=session, start=start, tokens=tokens):
                client = self.clients[session]
                client.receive(self.now, start, tokens)
                self._target_heard_s[gateway.inbox, client.weights] = self.now
            case Ended(session=session, reason=reason):
                client = self.clients[session]
                client.finish(self.now, reason)
                self._check_end(gateway, client, reason)
            case _:
                pass

    def _check_end(self, gateway: GatewayNode, client: Client, reason: EndReason) -> None:
        if reason is EndReason.LOST:
            woke_s = self._woke_s.get(gateway.inbox, 0.0)
            heard_s = self._target_heard_s.get((gateway.inbox, client.weights), 0.0)
            silent_s = self.now - max(woke_s, heard_s)
            if silent_s < 0.4 * self._case.timers.lost_s:
                raise Violation(f"I5: given up as lost, a target was heard {silent_s:.3f} s before")
        elif reason not in (EndReason.LENGTH, EndReason.STOP) and not client.is_cancelled:
            raise Violation(f"I5: ended with {reason}")

    def on_gateway(self, node: GatewayNode) -> None:
        """I3: what a gateway holds as committed is what its clients have, neither more nor less nor other."""
        for session_id, session in node.core.sessions.items():
            client = self.clients.get(session_id)
            if client is None:
                continue  # opened just now
            held = session.state_entry(since=session.committed)
            if held.committed != len(client.log) or held.digest != client.log.digest_at(len(client.log)):
                raise Violation(
                    f"I3: {held.committed} committed tokens are not the {len(client.log)} that were told"
                )

    def heard(self, gateway: Topic) -> None:
        """A gateway is awake again: what it has not heard meanwhile says nothing."""
        self._woke_s[gateway] = self.now

    # Stages

    def on_stage(self, node: StageNode, envelope: Envelope) -> None:
        """After a message at a stage: the sessions that it names."""
        match envelope.message:
            case Segment(session=session) | Open(session=session):
                self._check_session(node, session)
            case State(entries=entries):
                for entry in entries:
                    self._check_session(node, entry.session)
            case Close(session=session, epoch=epoch):
                self._check_session(node, session)
                if session not in node.core.sessions:
                    self._closed[node.inbox, session] = (epoch, self.now, node)
            case _:
                pass

    def on_target_beat(self, gateway: Topic, envelope: Envelope) -> None:
        """A gateway hears of a target; not of a process that has just taken a name whose former owner may still live (R13)."""
        message, incarnation = envelope.message, envelope.incarnation
        voices = self._voices.setdefault((gateway, envelope.sender), {})
        voices[incarnation] = self.now
        fenced_s = 1.02 * self._case.timers.dead_s  # by the gateway's clock
        if any(self.now - at_s <= fenced_s for other, at_s in voices.items() if other != incarnation):
            return
        if isinstance(message, Heartbeat) and message.rank == self._case.target:
            self._target_heard_s[gateway, message.weights] = self.now

    def _check_session(self, node: StageNode, session_id: SessionId) -> None:
        session = node.core.sessions.get(session_id)
        if session is None:
            return
        client = self.clients.get(session_id)
        if client is None:
            raise Violation(f"I7: {node.inbox.decode()} holds a session that nobody has opened")
        claims, told = session.claims, len(client.log)
        if node.inbox in self.misreading and claims.log.digest_at(0) != client.log.digest_at(0):
            return  # it takes part in another session, so to speak; nothing of it may reach a client
        if claims.committed > told or claims.log.digest_at(claims.committed) != client.log.digest_at(
            claims.committed
        ):
            raise Violation(
                f"I3: {node.inbox.decode()} takes {claims.committed} tokens for final, {told} are"
            )
        if len(claims) > told + WINDOW:
            raise Violation(f"I6: {node.inbox.decode()} holds {len(claims)} tokens, {told} are committed")
        self._check_word(node, session)
        epoch, closed_s, closer = self._closed.get((node.inbox, session_id), (-1, 0.0, None))
        is_buried = closer is node and self.now < closed_s + 0.9 * self._case.timers.lease_s
        if is_buried and session.epoch <= epoch:
            raise Violation(f"I7: {node.inbox.decode()} opened a session again that was closed")
        if self.foreign.get(node.inbox) == "tokenizer":
            raise Violation(f"I1: {node.inbox.decode()} has another vocabulary and a session")

    def _check_word(self, node: StageNode, session: StageSession) -> None:
        """I3: where all target replicas agree, nothing that a target has said is ever undone."""
        if not session.is_target or self._case.fork:
            return
        before, said = self._said_by_target.get((node.inbox, session.session), (session, 0))
        if before is session and session.own < said:
            raise Violation(f"I3: {node.inbox.decode()} had said {said} tokens, now {session.own}")
        self._said_by_target[node.inbox, session.session] = (session, session.own)

    def on_step(
        self, rank: int, *, inbox: Topic, began_s: float, ended_s: float, shares: Sequence[StepShare]
    ) -> None:
        """I7: nothing is computed for a session a lease after its end."""
        del rank, began_s, ended_s
        lease_s = self._case.timers.lease_s
        for share in shares:
            client = self.clients[share.session]
            if client.is_over and self.now > client.ended_s + lease_s + self._slack_s:
                raise Violation(
                    f"I7: {inbox.decode()} computes {self.now - client.ended_s:.2f} s after the end"
                )

    # Messages

    def on_send(self, now: float, topic: Topic, envelope: Envelope) -> None:
        """I8: nobody asks faster than he may."""
        self.now = now
        message = envelope.message
        if isinstance(message, Heartbeat):
            return
        self.said += 1
        if isinstance(message, Sync):
            asked = self._asked.setdefault((envelope.sender, envelope.incarnation, message.session), [])
            asked.append(now)
            if len(asked) > _SYNC_BURST and now - asked.pop(0) < 0.9 * self._case.timers.sync_s:
                raise Violation(f"I8: {envelope.sender.decode()} asks {_SYNC_BURST + 1} times within sync_s")

    def check_messages(self) -> None:
        """I8: what was said is bounded by what was committed, and by the time that it took."""
        nodes = sum(spec.replicas for spec in self._case.chain) + self._case.gateways
        beats = self.now / self._case.timers.heartbeat_s
        tokens = sum(len(client.received) for client in self.clients.values())
        stages = len(self._case.chain)
        bound = _MESSAGES_PER_TOKEN * stages * tokens + _MESSAGES_PER_HEARTBEAT * nodes * beats * len(
            self.clients
        )
        if self.said > bound:
            raise Violation(
                f"I8: {self.said} messages for {tokens} tokens in {self.now:.1f} s, more than {bound:.0f}"
            )

    # The whole world, now and then

    def check_tables(self, stages: Sequence[StageNode]) -> None:
        """I6: engines hold what cores hold, and what cores remember is bounded by the sessions."""
        for node in stages:
            caches = node.device.caches  # type: ignore[attr-defined]  # ours are hash models
            if caches.keys() != node.core.sessions.keys():
                raise Violation("I6: caches and sessions differ")
            if node.core.num_remembered > 2 * len(self.clients) + 1:
                raise Violation(f"I6: {node.core.num_remembered} closed or unknown sessions remembered")

    def check_agreement(self, gateways: Sequence[GatewayNode], stages: Sequence[StageNode]) -> None:
        """I5: once all has healed, every stage of a session's route holds what was committed a moment ago."""
        awake = {node.inbox: node for node in stages}
        for gateway in gateways:
            for session_id, session in gateway.core.sessions.items():
                past = self._past.setdefault(session_id, [])
                past.append((self.now, session.epoch, session.committed))
                told = [n for at_s, epoch, n in past if epoch == session.epoch and at_s <= self.now - AGREE_S]
                for inbox in session.inboxes if told else ():
                    if inbox in awake and awake[inbox].core.place.serves(session.open_message()):
                        self._check_agrees(awake[inbox], session_id, told[-1])

    def _check_agrees(self, node: StageNode, session_id: SessionId, told: int) -> None:
        session = node.core.sessions.get(session_id)
        held = -1 if session is None else session.claims.committed
        if held < told:
            raise Violation(f"I5: {node.inbox.decode()} holds {held} of the {told} tokens of {AGREE_S} s ago")

    def check_leftovers(self, gateways: Sequence[GatewayNode], stages: Sequence[StageNode]) -> None:
        """I6: a lease after the last session's end nobody holds anything."""
        for gateway in gateways:
            if gateway.core.sessions:
                raise Violation(f"I6: sessions left at {gateway.inbox.decode()}")
        for node in stages:
            if node.core.sessions:
                raise Violation(f"I6: {len(node.core.sessions)} sessions left at {node.inbox.decode()}")
