"""Order of chunks by their sequence numbers."""

from __future__ import annotations

import pytest

from pipespec.client.completion import Chunk
from pipespec.client.ordering import Sequencer
from pipespec.ops.errors import SessionLost


def chunk(start: int, length: int) -> Chunk:
    return Chunk("", tuple(range(length)), start)


def test_chunks_in_order_are_new_and_repeated_ones_are_not() -> None:
    order = Sequencer()
    assert [order.accept(chunk(*at)) for at in ((0, 2), (2, 1), (0, 2), (2, 1), (3, 0), (3, 4))] == [
        True,
        True,
        False,
        False,
        True,
        True,
    ]
    assert order.expected == 7


@pytest.mark.parametrize("at", [(3, 1), (1, 2), (5, 0)])
def test_a_gap_or_an_overlap_is_an_error(at: tuple[int, int]) -> None:
    order = Sequencer()
    order.accept(chunk(0, 2))
    with pytest.raises(SessionLost, match="sequence number 2"):
        order.accept(chunk(*at))
