"""A stage's engine on several ranks, from the start of the processes to their end."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

import torch.distributed as dist
from torch.distributed import TCPStore  # type: ignore[attr-defined]  # documented, but not re-exported explicitly
from torch.distributed.rendezvous import rendezvous

from pipespec.engine.load import LoadedEngine, load_engine
from pipespec.engine.parallel.group import MEET_TIMEOUT, RankGroup
from pipespec.engine.parallel.launch import HOST, Followers, Seat, ignore_signals, use_loopback
from pipespec.engine.parallel.leader import LeaderEngine, follow
from pipespec.engine.parallel.split import device_of_ranks
from pipespec.ops.lifecycle import end_with_parent
from pipespec.ops.pipeline import StageSettings


@contextmanager
def leading(settings: StageSettings, *, seat: Seat | None, command: Sequence[str]) -> Iterator[LoadedEngine]:
    """The engine of a split stage, for its leader; the followers end with the block.

    Args:
        settings: of the stage.
        seat: this process's, where somebody else starts the others; None: they are started here.
        command: see ``Followers``.

    Raises:
        ModelError: the model cannot be loaded, or not be split.
        RankLost: a follower ended or hangs.
    """
    use_loopback()
    device = device_of_ranks(settings.device, settings.tensor_parallel)
    if seat is not None:
        with _joined(seat, device) as group, _led(settings, group) as loaded:
            yield loaded
        return
    with Followers(command, size=settings.tensor_parallel) as followers:
        port = followers.listener.getsockname()[1]
        store = TCPStore(
            HOST, port, is_master=True, wait_for_workers=False, master_listen_fd=followers.listener.detach()
        )
        group = RankGroup(store, rank=0, size=settings.tensor_parallel, device=device)
        with group, _led(settings, group) as loaded:
            yield loaded


def following(settings: StageSettings, seat: Seat) -> None:
    """Be a follower until the leader says stop.

    Raises:
        ModelError: as the leader's.
        RankLost: the leader ended without a word.
    """
    ignore_signals()
    use_loopback()
    device = device_of_ranks(settings.device, settings.tensor_parallel)
    with _joined(seat, device) as group:
        follow(load_engine(settings, ranks=group).engine, group)


@contextmanager
def _led(settings: StageSettings, group: RankGroup) -> Iterator[LoadedEngine]:
    loaded = load_engine(settings, ranks=group)
    engine = LeaderEngine(loaded.engine, group)
    yield replace(loaded, engine=engine)
    engine.stop()


def _joined(seat: Seat, device: str) -> RankGroup:
    """The group, found as the environment says."""
    if dist.is_torchelastic_launched():
        end_with_parent(
            os.getppid()
        )  # torchrun starts ranks in sessions of their own: killed, it would leave them
    store, _, _ = next(rendezvous("env://", timeout=MEET_TIMEOUT))
    return RankGroup(store, rank=seat.rank, size=seat.size, device=device)
