"""The faulty network: loses, doubles, delays, damages and crowds as the plan says.

Whatever arrives has gone through the seal and the codec of the services. Faults are counted by class, so that a campaign can
tell what it has tried.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable
from random import Random

from pipespec.ops.errors import MalformedMessage
from pipespec.planner.simulation.world import Copy
from pipespec.protocol.codec import decode, encode
from pipespec.protocol.ids import Topic
from pipespec.protocol.messages import Envelope
from pipespec.protocol.rules import Rules
from pipespec.protocol.seal import seal, unseal
from sim.plan import Plan


class FaultyNetwork:
    """Carries messages between inboxes; ``faults`` counts what it did to them."""

    def __init__(self, random: Random, plan: Plan, rules: Rules) -> None:
        self.faults: Counter[str] = Counter()
        self.deaf_until: dict[Topic, float] = {}
        self._random = random
        self._plan = plan
        self._rules = rules
        self._free_at: dict[Topic, float] = {}
        self._cuts = [(c.source.encode(), c.sink.encode(), c.start, c.end) for c in plan.cuts]
        self._crowds = [(c.node.encode(), c.start, c.end, c.service_s) for c in plan.crowds]

    def carry(self, now: float, envelope: Envelope, sink: Topic) -> Iterable[Copy]:
        """None, one or two copies, each after a time of its own."""
        random, plan = self._random, self._plan
        if self._is_lost(now, envelope.sender, sink):
            return ()
        delay_s = 0.0002 + 0.0008 * random.random()
        frame = seal(sink, encode(envelope))
        if now >= plan.heal_s:
            return ((delay_s, decode(unseal(sink, frame))),)
        copies = []
        for _ in range(self._copies()):
            arriving = self._arriving(sink, frame)
            if arriving is None:
                continue
            if plan.spike and random.random() < plan.spike:
                self.faults["delayed"] += 1
                delay_s += plan.max_spike_s * random.random()
            waits_s = self._wait(now, sink)
            if waits_s < math.inf:
                copies.append((delay_s + waits_s, arriving))
            delay_s = 0.0002 + 0.0008 * random.random()
        return copies

    def _is_lost(self, now: float, source: Topic, sink: Topic) -> bool:
        for cut_source, cut_sink, start, end in self._cuts:
            if start <= now < end and cut_source in (source, b"*") and cut_sink in (sink, b"*"):
                self.faults["cut"] += 1
                return True
        if self.deaf_until and now < max(self.deaf_until.get(source, 0.0), self.deaf_until.get(sink, 0.0)):
            self.faults["lost_at_join"] += 1
            return True
        if now < self._plan.heal_s and self._plan.drop and self._random.random() < self._plan.drop:
            self.faults["dropped"] += 1
            return True
        return False

    def _copies(self) -> int:
        if self._plan.duplicate and self._random.random() < self._plan.duplicate:
            self.faults["duplicated"] += 1
            return 2
        return 1

    def _arriving(self, sink: Topic, frame: bytes) -> Envelope | None:
        """What the reader makes of the frame, None when it drops it."""
        is_damaged = bool(self._plan.flip) and self._random.random() < self._plan.flip
        if is_damaged:
            self.faults["flipped"] += 1
            frame = self._damaged(frame)
        try:
            return decode(unseal(sink, frame, rules=self._rules))
        except MalformedMessage:
            if not is_damaged:
                raise
            self.faults["found_malformed"] += 1
            return None

    def _damaged(self, frame: bytes) -> bytes:
        damaged = bytearray(frame)
        for bit in self._random.sample(range(8 * len(damaged)), self._random.choice([1, 1, 1, 2, 5])):
            damaged[bit // 8] ^= 1 << bit % 8
        return bytes(damaged)

    def _wait(self, now: float, sink: Topic) -> float:
        """Behind whom a message waits for a slow reader; for ever when the queue is full."""
        for node, start, end, service_s in self._crowds:
            if node == sink and start <= now < end:
                free_at = max(now, self._free_at.get(sink, 0.0))
                if free_at - now > service_s * self._plan.hwm:
                    self.faults["overflowed"] += 1
                    return math.inf
                self._free_at[sink] = free_at + service_s
                return free_at + service_s - now
        return 0.0
