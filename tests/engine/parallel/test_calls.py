"""Calls survive the way to the followers."""

from __future__ import annotations

import msgpack
import pytest

from engine.schedule import make_work
from pipespec.engine.parallel.calls import Call, Close, Open, Step, Stop, decode, encode
from pipespec.ops.errors import InvariantBroken
from pipespec.protocol.ids import SessionId, TokenId
from pipespec.protocol.sampling import Sampling

SESSION = SessionId(bytes(range(16)))
SAMPLING = Sampling(
    max_tokens=7, temperature=0.7, top_k=4, seed=2**64 - 1, logit_bias=((3, -1.5), (9, 2.0)), stop_ids=(1, 2)
)
WORK = make_work(SESSION, start=3, tokens=[70_000, 0, 2**32 - 1], num_candidates=2, num_prompt=4, room=3)


@pytest.mark.parametrize(
    "call",
    [
        Open(SESSION, (TokenId(5), TokenId(128_255)), SAMPLING),
        Open(SESSION, (), Sampling()),
        Step((WORK, WORK)),
        Step(()),
        Close(SESSION),
        Stop(),
    ],
    ids=lambda call: type(call).__name__,
)
def test_a_call_arrives_as_it_was_made(call: Call):
    assert decode(encode(call)) == call


def test_lists_arrive_as_tuples():
    assert decode(encode(Open(SESSION, [TokenId(1)], Sampling()))) == Open(SESSION, (TokenId(1),), Sampling())


def test_an_unknown_call_is_a_bug_of_ours():
    with pytest.raises(InvariantBroken, match=r"unknown call: .*fly"):
        decode(msgpack.packb(["fly", 1]))
