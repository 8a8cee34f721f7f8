"""CURVE at the ZeroMQ client's end: the socket's options, and what a handshake that came to nothing means."""

from __future__ import annotations

import zmq

from pipespec.client.curve import Curve

REFUSED = zmq.EVENT_HANDSHAKE_FAILED_AUTH | zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL
"""After these libzmq does not try again by itself."""
BROKEN_OFF = zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL


def curve_options(curve: Curve | None) -> dict[int, bytes]:
    """Of a socket, before it connects; none where it speaks in plain."""
    if curve is None:
        return {}
    return {
        zmq.CURVE_SERVERKEY: curve.server.encode(),
        zmq.CURVE_PUBLICKEY: curve.public.encode(),
        zmq.CURVE_SECRETKEY: curve.secret.encode(),
    }


def why_refused(event: int, curve: Curve | None) -> str:
    """What a failed handshake means, for people."""
    if event & zmq.EVENT_HANDSHAKE_FAILED_AUTH and curve is not None:
        return f"it refused the key {curve.public}"
    if curve is None:
        return "it asks for a key (CURVE), and this client has none"
    return "the handshake failed: it speaks without keys, or the server key is not its own"


def why_broken_off(curve: Curve | None) -> str:
    """What handshakes that end without a word may mean, for people."""
    if curve is None:
        return "handshakes break off: perhaps it asks for a key (CURVE), and this client has none"
    return "handshakes break off: is the server key its own, and a key needed?"
