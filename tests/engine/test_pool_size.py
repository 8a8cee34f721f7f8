"""How many blocks a pool gets from what memory is free, in machines and in containers."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from pipespec.engine import pool_size
from pipespec.engine.pool_size import GIB, Demand, free_bytes, num_blocks
from pipespec.ops.errors import ModelError

CPU = torch.device("cpu")
DEMAND = Demand(bytes_per_token=1024, block_size=16, context_len=100, max_sessions=3)


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """A machine with 16 GiB available and no limit, described by files that tests write over."""
    monkeypatch.setattr(pool_size, "_MEMINFO", tmp_path / "meminfo")
    monkeypatch.setattr(pool_size, "_CGROUP", tmp_path)
    (tmp_path / "meminfo").write_text(f"MemTotal: 99 kB\nMemAvailable:   {16 * GIB // 1024} kB\n")
    (tmp_path / "memory.max").write_text("max\n")
    (tmp_path / "memory.current").write_text("12345\n")
    return tmp_path


def limited(machine: Path, *, limit: int, used: int, stat: str = "") -> None:
    (machine / "memory.max").write_text(f"{limit}\n")
    (machine / "memory.current").write_text(f"{used}\n")
    if stat:
        (machine / "memory.stat").write_text(stat)


def test_no_more_is_taken_than_all_sessions_can_use():
    assert num_blocks(DEMAND, device=CPU, cache_gib=64) == 3 * 7


def test_one_short_session_is_enough_to_ask_for():
    demand = Demand(bytes_per_token=256, block_size=16, context_len=16, max_sessions=1)
    assert num_blocks(demand, device=CPU, cache_gib=1) == 2


def test_a_setting_bounds_the_pool():
    per_block = 16 * 1024
    assert num_blocks(DEMAND, device=CPU, cache_gib=5.5 * per_block / GIB) == 5


def test_too_little_for_the_smallest_session_is_refused_with_the_setting_to_raise():
    with pytest.raises(
        ModelError, match=r"less than the two blocks of 16384 bytes.*raise the stage's 'cache_gib'"
    ):
        num_blocks(DEMAND, device=CPU, cache_gib=1.9 * 16 * 1024 / GIB)


def test_on_cpu_an_eighth_of_what_the_machine_has_left_is_taken(machine):
    assert free_bytes(CPU) == 2 * GIB


def test_a_container_s_limit_counts_where_it_is_lower(machine):
    limited(machine, limit=5 * GIB, used=GIB)
    assert free_bytes(CPU) == GIB // 2


def test_a_container_over_its_limit_has_nothing_left(machine):
    limited(machine, limit=GIB, used=2 * GIB)
    assert free_bytes(CPU) == 0
    with pytest.raises(ModelError, match=r"has 0\.000 GiB"):
        num_blocks(DEMAND, device=CPU, cache_gib=None)


def test_file_pages_that_the_kernel_can_drop_are_not_used_memory(machine):
    """Reading the weights fills the container with them."""
    limited(machine, limit=8 * GIB, used=7 * GIB, stat=f"anon 1\ninactive_file {3 * GIB}\nactive_file 5\n")
    assert free_bytes(CPU) == GIB // 2


@pytest.mark.parametrize("name", ["memory.max", "memory.current"])
def test_without_control_groups_the_machine_decides(machine, name):
    (machine / name).unlink()
    assert free_bytes(CPU) == 2 * GIB


@pytest.mark.parametrize("text", [None, "MemTotal: 5 kB\n"], ids=("no file", "no line"))
def test_a_system_that_does_not_say_is_taken_to_have_eight_gib(machine, text):
    if text is None:
        (machine / "meminfo").unlink()
    else:
        (machine / "meminfo").write_text(text)
    assert free_bytes(CPU) == GIB
