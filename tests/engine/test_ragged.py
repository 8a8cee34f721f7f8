"""Who sees what in a ragged batch, against the rule said key by key."""

from __future__ import annotations

import pytest
import torch

from pipespec.engine.ragged import Group


def sees(row: int, key: int, window: int | None) -> bool:
    return key <= row and (window is None or key > row - window)


@pytest.mark.parametrize("window", [None, 1, 3, 5, 6, 99], ids=str)
@pytest.mark.parametrize("start", [0, 1, 4, 5, 6])
@pytest.mark.parametrize("num_rows", [1, 2, 4])
def test_a_row_sees_the_tokens_up_to_its_own_within_its_window(window, start, num_rows):
    end = start + num_rows
    group = Group(0, torch.arange(start, end)[None], torch.zeros(1, end, dtype=torch.long))
    mask = group.mask(window, repeats=1)
    expected = [[sees(row, key, window) for key in range(end)] for row in range(start, end)]
    if mask is None:
        assert all(all(row) for row in expected)
    else:
        assert mask[0, 0].tolist() == expected


def test_query_heads_that_share_a_key_head_see_the_same():
    group = Group(0, torch.tensor([[2, 3], [0, 1]]), torch.zeros(2, 4, dtype=torch.long))
    mask = group.mask(None, repeats=3)
    assert mask is not None
    assert mask.shape == (2, 1, 6, 4)
    for head in range(3):
        assert torch.equal(mask[:, :, 2 * head : 2 * head + 2], mask[:, :, :2])


def test_keys_beyond_the_rows_are_hidden_in_captured_shapes():
    """One row, more keys than it may see."""
    group = Group(0, torch.tensor([[2]]), torch.zeros(1, 8, dtype=torch.long), is_exact=False)
    mask = group.mask(None, repeats=1)
    assert mask is not None
    assert mask.flatten().tolist() == [True] * 3 + [False] * 5
