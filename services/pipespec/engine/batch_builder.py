"""Lays the shares of a step out as a ragged batch.

Every session is a group of its own, its keys read up to its last new token. Rows are filled up to a number that the
device computes well; those write to the trash block, and nobody looks at them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from pipespec.engine.blocks import TRASH
from pipespec.engine.ragged import Group, RaggedBatch
from pipespec.protocol.ids import TokenId


@dataclass(frozen=True, slots=True)
class Share:
    """One session's part of a step.

    Attributes:
        tokens: what is fed, at least one.
        start: position of the first of them.
        table: blocks of the session, up to its last new token.
        logits_of: which of the tokens' logits are wanted.
    """

    tokens: Sequence[TokenId]
    start: int
    table: Sequence[int]
    logits_of: range


class BatchBuilder:
    """Builds batches for one device.

    Args:
        device: where the model is.
        block_size: tokens per block.
        fill: how many rows a number of rows is filled up to, for the pass and for its logits; 0 stays 0.
    """

    def __init__(self, *, device: torch.device, block_size: int, fill: Callable[[int], int] = int) -> None:
        self._device = device
        self._block_size = block_size
        self._fill = fill
        self._offsets = torch.arange(block_size)

    def build(self, shares: Sequence[Share]) -> RaggedBatch:
        """One batch; the logits' rows come share by share."""
        ids: list[int] = []
        groups: list[Group] = []
        positions: list[torch.Tensor] = []
        write_slots: list[torch.Tensor] = []
        logit_rows: list[int] = []
        for share in shares:
            first_row, end = len(ids), share.start + len(share.tokens)
            ids.extend(share.tokens)
            logit_rows.extend(first_row + index for index in share.logits_of)
            slots = self.slots(share.table)[:end]
            positions.append(torch.arange(share.start, end))
            write_slots.append(slots[share.start :])
            groups.append(self._group(first_row, positions[-1], slots))
        lacking = self._fill(len(ids)) - len(ids)
        if lacking > 0:
            padding = torch.zeros(lacking, dtype=torch.long)
            ids.extend([0] * lacking)
            positions.append(padding)
            write_slots.append(self.slots([TRASH])[:1].expand(lacking))
        return RaggedBatch(
            input_ids=self._moved(torch.tensor(ids, dtype=torch.long)[None]),
            position_ids=self._moved(torch.cat(positions)[None]),
            write_slots=self._moved(torch.cat(write_slots)),
            groups=tuple(groups),
            logit_rows=self._moved(torch.tensor(self._filled(logit_rows), dtype=torch.long)),
        )

    def _filled(self, logit_rows: list[int]) -> list[int]:
        """The LM head is such a layer too; without any rows it is not run at all where the family allows."""
        return logit_rows + logit_rows[:1] * (self._fill(len(logit_rows)) - len(logit_rows))

    def slots(self, table: Sequence[int]) -> torch.Tensor:
        """Pool slots of a table's tokens, in order, on the host."""
        blocks = torch.tensor(table, dtype=torch.long)
        return (blocks[:, None] * self._block_size + self._offsets).view(-1)

    def _group(self, first_row: int, positions: torch.Tensor, slots: torch.Tensor) -> Group:
        return Group(first_row, self._moved(positions[None]), self._moved(slots[None]))

    def _moved(self, tensor: torch.Tensor) -> torch.Tensor:
        return tensor.to(self._device, non_blocking=True)
