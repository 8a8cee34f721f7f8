"""Identifiers and bus addresses.

Every value that crosses the bus has a type of its own, so that a position can never be passed for a token id.
An address is a topic: the *inbox* of one replica. Topics end in a dot, so that ZeroMQ's prefix subscription to
``stage.1.r1.`` never matches ``stage.1.r10.``.
"""

from __future__ import annotations

import re
from typing import NewType

SessionId = NewType("SessionId", bytes)
"""16 random bytes, chosen by the gateway; unique for ever."""

Epoch = NewType("Epoch", int)
"""Counts the routes of one session from 0; a re-route starts the next. Messages of older epochs are dropped."""

Rank = NewType("Rank", int)
"""Place in the chain: 0 is the smallest stage, K-1 the target, K the gateway's committed prefix."""

Position = NewType("Position", int)
"""Index of a generated token, from 0; the sequence number that clients see. Prompt tokens have none."""

TokenId = NewType("TokenId", int)
"""A vocabulary index, below 2**32."""

Digest = NewType("Digest", bytes)
"""16 bytes; equal digests at a position mean equal prompt, tokens and chain identity up to it."""

Incarnation = NewType("Incarnation", int)
"""64 random bits drawn at process start; tells a restarted replica from its former self."""

Topic = NewType("Topic", bytes)
"""First frame of a bus message: the inbox that it is for."""

Member = tuple[Rank, str]
"""A stage replica by rank and name."""

SESSION_ID_LEN = 16
DIGEST_LEN = 16
MAX_STAGES = 16

FLEET = Topic(b"fleet.")
"""Heartbeats of all stage and gateway replicas; gateways, autoscalers and observers subscribe."""

_REPLICA = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")


def is_replica_name(name: str) -> bool:
    """Whether ``name`` is a DNS label, as pod names are: lower case, digits, dashes, at most 63 characters."""
    return _REPLICA.fullmatch(name) is not None


def stage_inbox(rank: Rank, replica: str) -> Topic:
    """Topic of a stage replica's inbox, ``stage.<index>.<replica>.``."""
    return Topic(f"stage.{rank}.{replica}.".encode())


def gateway_inbox(replica: str) -> Topic:
    """Topic of a gateway replica's inbox, ``gateway.<replica>.``."""
    return Topic(f"gateway.{replica}.".encode())


def observer_inbox(name: str) -> Topic:
    """Topic of an observer's inbox, ``observer.<name>.``."""
    return Topic(f"observer.{name}.".encode())
