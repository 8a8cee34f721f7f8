"""The one factory of bus sockets, so that every socket has its marks, its linger and its heartbeats.

The values and their reasons (measured with libzmq 4.3.5):

- ``SNDHWM`` of publishers is bounded: a frozen reader costs a bounded queue, then loses messages, which the protocol
  heals. Subscriptions travel the other way and must not be lost, so subscribing sockets have ``SNDHWM`` 0.
- ``RCVHWM`` of whoever receives publications is 0. A socket that is full stops reading, does not see the answers to its own
  heartbeats, cuts the connection, and libzmq aborts the process when the reader comes back (zeromq/libzmq#3937, decision
  0008). What waits is bounded behind it instead: by the broker's queues, and by the link's inbox.
- ZMTP heartbeats cut half-open connections; they prove a living kernel, not a living loop, which is what the
  ``heartbeat`` message is for.
- ``MAXMSGSIZE`` closes the connection of whoever sends more than a message can be.
- With keys every socket speaks CURVE: clients here, servers by their guard (``bus/guard.py``).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import zmq

from pipespec.bus.keys import ClientKeys
from pipespec.protocol.codec import MAX_MESSAGE_BYTES

Context = zmq.Context[Any]
Socket = zmq.Socket[bytes]

HIGH_WATER_MARK = 1000
"""Messages queued per peer at most."""


Protect = Callable[[Socket], None]
"""Makes a socket a CURVE server; before it binds."""


def publisher(context: Context, endpoints: list[str]) -> Socket:
    """A PUB socket for the brokers' publish endpoints; ``connect`` it."""
    return _prepared(context.socket(zmq.PUB), endpoints)


def subscriber(context: Context, endpoints: list[str], topics: list[bytes]) -> Socket:
    """A SUB socket for the brokers' subscribe endpoints, subscribed once and for all to its inboxes; ``connect`` it."""
    socket = _prepared(context.socket(zmq.SUB), endpoints)
    socket.set(zmq.SNDHWM, 0)
    socket.set(zmq.RCVHWM, 0)
    for topic in topics:
        socket.subscribe(topic)
    return socket


def connect(socket: Socket, endpoints: Sequence[str], keys: ClientKeys | None) -> None:
    """Connect to all brokers; with keys each has to prove that it is the one."""
    for index in range(len(endpoints)):
        connect_one(socket, endpoints, index, keys)


def connect_one(socket: Socket, endpoints: Sequence[str], index: int, keys: ClientKeys | None) -> None:
    """Connect to the broker at this place of the list."""
    if keys is not None:
        socket.set(zmq.CURVE_PUBLICKEY, keys.own.public)
        socket.set(zmq.CURVE_SECRETKEY, keys.own.secret)
        socket.set(zmq.CURVE_SERVERKEY, keys.servers[index])
    socket.connect(endpoints[index])


def broker_in(context: Context, endpoint: str, *, protect: Protect | None = None) -> Socket:
    """The XSUB socket where everyone publishes."""
    socket = _prepared(context.socket(zmq.XSUB), [endpoint])
    socket.set(zmq.SNDHWM, 0)
    socket.set(zmq.RCVHWM, 0)
    if protect is not None:
        protect(socket)
    socket.bind(endpoint)
    return socket


def broker_out(context: Context, endpoint: str, *, protect: Protect | None = None) -> Socket:
    """The XPUB socket where everyone subscribes."""
    socket = _prepared(context.socket(zmq.XPUB), [endpoint])
    if protect is not None:
        protect(socket)
    socket.bind(endpoint)
    return socket


def _prepared(socket: Socket, endpoints: list[str]) -> Socket:
    socket.set(zmq.IPV6, int(any("[" in endpoint for endpoint in endpoints)))
    for option, value in (
        (zmq.SNDHWM, HIGH_WATER_MARK),
        (zmq.RCVHWM, HIGH_WATER_MARK),
        (zmq.LINGER, 500),
        (zmq.MAXMSGSIZE, MAX_MESSAGE_BYTES),
        (zmq.HEARTBEAT_IVL, 500),
        (zmq.HEARTBEAT_TIMEOUT, 1500),
        (zmq.HEARTBEAT_TTL, 1500),
        (zmq.RECONNECT_IVL, 50),
        (zmq.RECONNECT_IVL_MAX, 1000),
        (zmq.HANDSHAKE_IVL, 2000),
    ):
        socket.set(option, value)
    return socket
