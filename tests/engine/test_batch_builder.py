"""What a batch is filled up with, and that it stays out of the way."""

from __future__ import annotations

import torch

from pipespec.engine.batch_builder import BatchBuilder, Share
from pipespec.engine.blocks import TRASH
from pipespec.engine.packed_linear import filled
from pipespec.protocol.ids import TokenId

BLOCK_SIZE = 16


def builder() -> BatchBuilder:
    return BatchBuilder(device=torch.device("cpu"), block_size=BLOCK_SIZE, fill=filled)


def share(num_tokens: int, *, num_logits: int) -> Share:
    table = range(1, 2 + num_tokens // BLOCK_SIZE)
    return Share([TokenId(3)] * num_tokens, 0, table, range(num_tokens - num_logits, num_tokens))


def test_steps_of_all_lengths_show_the_model_few_numbers_of_rows():
    built = [builder().build([share(num, num_logits=num)]) for num in range(1, 513)]
    for numbers in (
        {batch.input_ids.shape[1] for batch in built},
        {len(batch.logit_rows) for batch in built},
    ):
        assert len(numbers) < 50
        assert numbers == {filled(number) for number in numbers}


def test_what_fills_up_writes_to_the_trash_block():
    batch = builder().build([share(17, num_logits=1), share(16, num_logits=0)])
    assert batch.input_ids.shape == (1, 36)
    assert (batch.write_slots[33:] == TRASH * BLOCK_SIZE).all()
    assert (batch.write_slots[:33] >= BLOCK_SIZE).all()


def test_the_logits_that_are_wanted_come_first():
    batch = builder().build([share(5, num_logits=2), share(9, num_logits=1)])
    assert batch.logit_rows.tolist() == [3, 4, 13, 3]


def test_without_logits_the_head_gets_no_rows():
    assert len(builder().build([share(5, num_logits=0)]).logit_rows) == 0
