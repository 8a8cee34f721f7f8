"""A stage's engine on several ranks: how they find each other, load their shares, work and end."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from socket import socket

import torch.distributed as dist
from torch.distributed import TCPStore  # type: ignore[attr-defined]  # documented, but not re-exported explicitly
from torch.distributed.distributed_c10d import Store
from torch.distributed.rendezvous import rendezvous

from pipespec.engine.load import LoadedEngine, load_engine
from pipespec.engine.parallel.group import MEET_TIMEOUT, RankGroup
from pipespec.engine.parallel.launch import Seat, ignore_signals, use_loopback
from pipespec.engine.parallel.leader import LeaderEngine, follow
from pipespec.engine.parallel.split import device_of_ranks
from pipespec.ops.lifecycle import end_with_parent
from pipespec.ops.pipeline import StageSettings


@contextmanager
def leading(settings: StageSettings, listener: socket | None) -> Iterator[LoadedEngine]:
    """The engine of a split stage, for its leader; the followers are told to end with the block.

    Args:
        settings: of the stage.
        listener: where the followers look for the leader; None: somebody else started all ranks, and said where.

    Raises:
        ModelError: the model cannot be loaded, or not be split.
        RankLost: a follower ended or hangs.
    """
    with joined(Seat(0, settings.tensor_parallel), settings.device, listener) as group:
        loaded = load_engine(settings, ranks=group)
        engine = LeaderEngine(loaded.engine, group)
        yield replace(loaded, engine=engine)
        engine.stop()


def following(settings: StageSettings, seat: Seat) -> None:
    """Be a follower until the leader says stop.

    Raises:
        ModelError: as the leader's.
        RankLost: the leader ended without a word.
    """
    ignore_signals()
    with joined(seat, settings.device) as group:
        follow(load_engine(settings, ranks=group).engine, group)


def joined(seat: Seat, device: str, listener: socket | None = None) -> RankGroup:
    """The group of all ranks, seen from ``seat``. Returns when all have come.

    Args:
        seat: of this process.
        device: as in ``StageSettings``.
        listener: as in ``leading``.

    Raises:
        ModelError: there are too few GPUs.
        RankLost: somebody did not come.
    """
    use_loopback()
    place = device_of_ranks(device, seat.size)
    store = _store() if listener is None else _own_store(listener)
    return RankGroup(store, rank=seat.rank, size=seat.size, device=place)


def _own_store(listener: socket) -> TCPStore:
    """A store that listens there: on loopback, where its own choice would be every address."""
    host, port = listener.getsockname()
    return TCPStore(host, port, is_master=True, wait_for_workers=False, master_listen_fd=listener.detach())


def _store() -> Store:
    """The store that the environment names."""
    if dist.is_torchelastic_launched():
        end_with_parent(
            os.getppid()
        )  # torchrun starts ranks in sessions of their own: killed, it would leave them
    store: Store
    store, _, _ = next(rendezvous("env://", timeout=MEET_TIMEOUT))
    return store
