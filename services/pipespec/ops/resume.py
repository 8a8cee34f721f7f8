"""Settings of streams that outlive their client's connection; part of ``gateway`` in the pipeline file.

Off and on is one number, ``resume_grace_s``. All buffers together are bounded, whatever clients do.
"""

from __future__ import annotations

from pydantic import Field

from pipespec.ops.settings import Settings


class ResumeSettings(Settings):
    """How long, and how much of, a resumable stream is kept."""

    resume_grace_s: float = Field(default=30.0, ge=0, le=3600)
    """A client of a resumable stream may come back for so long; 0 turns resuming off."""
    resume_stream_kib: int = Field(default=1024, ge=64, le=1_048_576)
    """Events kept of one stream; what was delivered goes first, and a stream whose client lags further behind ends."""
    resume_total_kib: int = Field(default=65_536, ge=64, le=16_777_216)
    """Events kept of all streams; beyond it those go first that have been without a client for longest."""
