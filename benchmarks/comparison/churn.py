"""Sessions that come and go: does the engine's memory come back to where it began? Runs in a worker."""

from __future__ import annotations

import gc

import psutil

from pipespec.engine.paged import PagedEngine

from .driver import Driver, load
from .memory import Churn, MemoryRow
from .setup import Setup
from .workload import Report, silent

MIB = 2**20


def come_and_go(setup: Setup, churn: Churn, report: Report) -> MemoryRow:
    """Serve ``churn.num_sessions`` sessions on one engine."""
    loaded = load(setup, cache_gib=churn.cache_gib)
    engine = loaded.engine
    if not isinstance(engine, PagedEngine):
        raise TypeError(f"expected a PagedEngine, got {type(engine).__name__}")
    driver = Driver(loaded, max_sessions=churn.at_once)
    before = churn.workload(churn.num_before, vocab_size=engine.vocab_size, seed=0)
    driver.run(before, silent, at_once=churn.at_once)
    rss_before_mib, blocks_before = _rss_mib(), engine.blocks.num_held
    workload = churn.workload(churn.num_sessions, vocab_size=engine.vocab_size, seed=1)
    driver.run(workload, report, at_once=churn.at_once)
    del workload
    return MemoryRow(
        num_sessions=churn.num_sessions,
        rss_before_mib=rss_before_mib,
        rss_after_mib=_rss_mib(),
        blocks_before=blocks_before,
        blocks_after=engine.blocks.num_held,
        cached_after=engine.blocks.num_cached,
        num_blocks=engine.blocks.num_blocks,
    )


def _rss_mib() -> float:
    gc.collect()
    return float(psutil.Process().memory_info().rss) / MIB
