"""What is being read is bounded in sum, and given back however the reading ends."""

from __future__ import annotations

import pytest

from pipespec.gateway.gate import Arriving
from pipespec.ops.errors import Overloaded


def test_what_would_go_beyond_the_limit_is_refused_and_given_back() -> None:
    arriving = Arriving(100)
    with arriving.body() as first:
        first(60)
        with arriving.body() as second:
            second(40)
            with pytest.raises(Overloaded) as refusal:
                second(1)
        assert refusal.value.retry_after_s
        assert (arriving.num_bytes, arriving.num_refused) == (60, 1)
        with arriving.body() as third:
            third(40)
    assert arriving.num_bytes == 0


def test_one_that_is_alone_is_read_whatever_the_limit() -> None:
    arriving = Arriving(100)
    with arriving.body() as take:
        take(90)
        take(90)
        assert arriving.num_bytes == 180
    assert (arriving.num_bytes, arriving.num_refused) == (0, 0)
