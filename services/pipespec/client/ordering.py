"""Checks that chunks come in order of their sequence numbers, whatever the transport promises.

``[0, expected)`` was delivered; a chunk either starts at ``expected``, or lies before it and is dropped, or shows that
something was lost.
"""

from __future__ import annotations

from pipespec.client.completion import Chunk
from pipespec.ops.errors import SessionLost


class Sequencer:
    """Order of one generation.

    Args:
        expected: sequence number of the next token; None takes what comes first, of a stream that is resumed.
    """

    def __init__(self, expected: int | None = 0) -> None:
        self.expected = expected

    def accept(self, chunk: Chunk) -> bool:
        """Whether ``chunk`` is new; False for one that was delivered before.

        Raises:
            SessionLost: tokens are missing before it, or it overlaps what was delivered.
        """
        end = chunk.start + len(chunk.token_ids)
        if self.expected is None or chunk.start == self.expected:
            self.expected = end
            return True
        if end <= self.expected:
            return False
        raise SessionLost(
            f"expected the token with sequence number {self.expected}, got {chunk.start} to {end - 1}; "
            "send the request again",
            code="sequence_gap",
        )
