"""How many blocks the pool gets: as many as the sessions can use, within the memory that is free.

On a GPU nearly all of what the weights left, because nothing else runs there. On CPU an eighth: other stages and the rest
of the machine live there too, and memory is taken only as blocks are first written.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch

from pipespec.ops.errors import ModelError

GIB = 2**30
_CPU_SHARE = 1 / 8
_GPU_SHARE = 0.9
_GPU_RESERVE = GIB
"""For activations and captured graphs."""
_FEWEST = 2
"""Blocks of the smallest pool; so the message says."""
_CGROUP = Path("/sys/fs/cgroup")
_MEMINFO = Path("/proc/meminfo")
_UNKNOWN = 8 * GIB
"""Taken as free where the system does not say."""


@dataclass(frozen=True, slots=True)
class Demand:
    """What a pool is for.

    Attributes:
        bytes_per_token: in all layers.
        block_size: tokens per block.
        context_len: tokens of a session.
        max_sessions: at once.
    """

    bytes_per_token: int
    block_size: int
    context_len: int
    max_sessions: int


def num_blocks(demand: Demand, *, device: torch.device, cache_gib: float | None) -> int:
    """Blocks that a pool should have.

    Args:
        demand: more than it is never taken.
        device: whose free memory counts.
        cache_gib: size in GiB; None: what is free decides.

    Raises:
        ModelError: there is room for less than two blocks.
    """
    size = free_bytes(device) if cache_gib is None else int(cache_gib * GIB)
    per_block = demand.bytes_per_token * demand.block_size
    wanted = demand.max_sessions * -(-demand.context_len // demand.block_size)
    number = min(max(wanted, _FEWEST), size // per_block)
    if number < _FEWEST:
        raise ModelError(
            f"the cache of keys and values has {size / GIB:.3f} GiB, less than the two blocks of {per_block} bytes that "
            "the smallest session needs; free memory, or raise the stage's 'cache_gib'"
        )
    return number


def free_bytes(device: torch.device) -> int:
    """Memory that the pool may take on a device."""
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        return int(free * _GPU_SHARE) - _GPU_RESERVE
    return int(min(_available(), _left_in_container()) * _CPU_SHARE)


def _available() -> int:
    """What this machine can still give."""
    try:
        lines = _MEMINFO.read_text(encoding="ascii").splitlines()
    except OSError:
        return _UNKNOWN
    kib = next((line.split()[1] for line in lines if line.startswith("MemAvailable:")), None)
    return _UNKNOWN if kib is None else int(kib) * 1024


def _left_in_container() -> int:
    """What the control group still allows; very much where it sets no limit."""
    try:
        limit = (_CGROUP / "memory.max").read_text(encoding="ascii").strip()
        used = int((_CGROUP / "memory.current").read_text(encoding="ascii"))
    except (OSError, ValueError):
        return 2**62
    return 2**62 if limit == "max" else max(0, int(limit) - used + _droppable())


def _droppable() -> int:
    """File pages of the control group that nobody has touched lately: of weights that were read, above all."""
    try:
        lines = (_CGROUP / "memory.stat").read_text(encoding="ascii").splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith("inactive_file ")), 0)
