"""The gate of a gateway: who is let in, who waits for room, who is sent away and for how long."""

from pipespec.gateway.gate.arriving import Arriving
from pipespec.gateway.gate.gate import Gate, Permit
from pipespec.gateway.gate.ledger import Limits, Pool

__all__ = ["Arriving", "Gate", "Limits", "Permit", "Pool"]
