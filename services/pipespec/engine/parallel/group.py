"""The ranks of one stage as torch's process group: how they meet, and how the leader tells them what to do.

Two groups of the same ranks. The default one is the model's: NCCL on GPUs, gloo on CPU. The *control* group is gloo on
CPU, so that telling a call never queues behind the GPU. A rank that hangs ends the wait of all others after
``STEP_TIMEOUT``; but a follower waits for the next call for ever, because an idle stage has nothing to say. When the leader
ends, its connections break, and with them that wait.
"""

from __future__ import annotations

import time
from datetime import timedelta
from typing import Self

import torch
import torch.distributed as dist
from torch.distributed.distributed_c10d import Store

from pipespec.ops.errors import PipespecError

STEP_TIMEOUT = timedelta(seconds=60)
"""Ranks do the same work at the same time; who is later than this hangs. As long as a loop may take for one turn."""

MEET_TIMEOUT = timedelta(hours=2)
"""Ranks load at very different speeds from a shared disk."""

_FOR_EVER = timedelta(days=10_000)
_POLL_S = 0.02
_FRAME_BYTES = 4096
_LENGTH_BYTES = 4


class RankLost(PipespecError):
    """Another rank of this stage ended or hangs; the stage ends with it."""


class RankGroup:
    """All ranks of a stage, seen from one of them.

    Args:
        store: where the ranks find each other.
        rank: of this process; 0 leads.
        size: how many there are.
        device: ``cpu`` or ``cuda``; on CUDA a rank takes the GPU of its number.
        step_timeout: see ``STEP_TIMEOUT``.

    Raises:
        RankLost: not all ranks came.
    """

    def __init__(
        self,
        store: Store,
        *,
        rank: int,
        size: int,
        device: str,
        step_timeout: timedelta = STEP_TIMEOUT,
    ) -> None:
        self.rank = rank
        self.size = size
        self._store = store
        self._num_meetings = 0
        self.meet()
        on_gpu = device == "cuda"
        dist.init_process_group(
            "nccl" if on_gpu else "gloo",
            store=store,
            rank=rank,
            world_size=size,
            timeout=step_timeout,
            device_id=torch.device("cuda", rank) if on_gpu else None,
        )
        patience = step_timeout if self.leads else _FOR_EVER
        self._control = dist.new_group(backend="gloo", timeout=patience)

    @property
    def leads(self) -> bool:
        """Whether this rank is the leader."""
        return self.rank == 0

    def meet(self) -> None:
        """Return when all ranks have come here. Other code runs meanwhile: signals are handled.

        Raises:
            RankLost: they did not within ``MEET_TIMEOUT``.
        """
        self._num_meetings += 1
        key = f"meeting-{self._num_meetings}"
        until_s = time.monotonic() + MEET_TIMEOUT.total_seconds()
        num_here = self._store.add(key, 1)
        while num_here < self.size:
            if time.monotonic() > until_s:
                raise RankLost(
                    f"{num_here} of {self.size} ranks came within {MEET_TIMEOUT}; look at their logs"
                )
            time.sleep(_POLL_S)
            num_here = self._store.add(key, 0)

    def minimum(self, value: int) -> int:
        """The least of what all ranks say; for what a rank derives from its own free memory or clock."""
        box = torch.tensor([value], dtype=torch.int64)
        dist.all_reduce(box, dist.ReduceOp.MIN, group=self._control)
        return int(box.item())

    def send(self, message: bytes) -> None:
        """Tell all followers; leader only. One collective where it fits a frame, as nearly all calls do.

        Frames: ``[length: 4 bytes, little-endian | the message's beginning, padded to 4096]``, then the rest, if any.

        Raises:
            RankLost: a follower ended, or has not listened for the step timeout.
        """
        room = _FRAME_BYTES - _LENGTH_BYTES
        head = len(message).to_bytes(_LENGTH_BYTES, "little") + message[:room]
        try:
            self._broadcast(bytearray(head.ljust(_FRAME_BYTES, b"\0")))
            if len(message) > room:
                self._broadcast(bytearray(message[room:]))
        except RuntimeError as error:
            raise RankLost(f"a follower of this stage ended or hangs; its log says why ({error})") from error

    def receive(self) -> bytes:
        """What the leader tells next; followers only. Waits for ever.

        Raises:
            RankLost: the leader ended.
        """
        room = _FRAME_BYTES - _LENGTH_BYTES
        frame = bytearray(_FRAME_BYTES)
        try:
            self._broadcast(frame)
            length = int.from_bytes(frame[:_LENGTH_BYTES], "little")
            rest = bytearray(max(0, length - room))
            if rest:
                self._broadcast(rest)
        except RuntimeError as error:
            raise RankLost(
                f"the leader of this stage ended without a word; its log says why ({error})"
            ) from error
        return bytes(frame[_LENGTH_BYTES : _LENGTH_BYTES + min(length, room)] + rest)

    def _broadcast(self, buffer: bytearray) -> None:
        """From the leader's buffer to the followers'."""
        dist.broadcast(torch.frombuffer(buffer, dtype=torch.uint8), 0, group=self._control)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, error_type: type[BaseException] | None, *_: object) -> None:
        """Leave in order; after an error the process ends anyway, and waiting for others could take for ever."""
        if error_type is None:
            dist.destroy_process_group()
