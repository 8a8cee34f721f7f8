"""A ragged batch: the new tokens of many sessions laid end to end, with what attention needs to keep them apart.

Rows are new tokens. A *group* is a run of rows of N sessions with Q rows each; its sessions attend together. On CPU
every session is a group of its own; a captured graph has one group of fixed shape, filled up with padding.

Shape symbols: T = rows, R = rows whose logits are wanted, N = sessions of a group, Q = rows per session,
L = keys per session.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch


@dataclass(slots=True)
class Group:
    """Sessions that attend together.

    Attributes:
        first_row: where its N·Q rows begin, session by session.
        positions: ``[N, Q]`` of the rows.
        key_slots: ``[N, L]``: entry l is the pool slot of the session's token l. A row sees the tokens up to its own
            position, so entries beyond it may be anything.
        is_exact: the keys end with the last row's own token.
    """

    first_row: int
    positions: torch.Tensor
    key_slots: torch.Tensor
    is_exact: bool = True
    _masks: dict[tuple[int | None, int], torch.Tensor | None] = field(default_factory=dict)

    def mask(self, window: int | None, *, repeats: int) -> torch.Tensor | None:
        """``[N, 1, repeats·Q, L]`` bool, True where a row sees a key; None where every row sees all of them.

        Args:
            window: a row sees this many tokens, itself included; None: all.
            repeats: query heads that are folded into rows.
        """
        key = (window, repeats)
        if key not in self._masks:
            mask = self._mask(window)
            self._masks[key] = None if mask is None else mask.repeat(1, 1, repeats, 1)
        return self._masks[key]

    def _mask(self, window: int | None) -> torch.Tensor | None:
        (num_sessions, num_rows), num_keys = self.positions.shape, self.key_slots.shape[1]
        sees_all = num_sessions == num_rows == 1 and self.is_exact
        if sees_all and (window is None or num_keys <= window):
            return None
        keys = torch.arange(num_keys, device=self.positions.device)
        rows = self.positions[:, None, :, None]
        sees = keys <= rows
        return sees if window is None else sees & (keys > rows - window)


@dataclass(frozen=True, slots=True)
class RaggedBatch:
    """What one forward pass is fed.

    Attributes:
        input_ids: ``[1, T]``.
        position_ids: ``[1, T]``.
        write_slots: ``[T]``: pool slots of the rows' keys and values.
        groups: cover the rows from the first on; what is left is padding.
        logit_rows: ``[R]``.
    """

    input_ids: torch.Tensor
    position_ids: torch.Tensor
    write_slots: torch.Tensor
    groups: tuple[Group, ...]
    logit_rows: torch.Tensor
