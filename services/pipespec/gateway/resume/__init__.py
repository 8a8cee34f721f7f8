"""Streams that outlive their client's connection: kept for a grace period, resumed through any gateway.

``log`` keeps one stream's events, ``owner`` all streams of this gateway, ``asker`` reads a stream that another gateway
owns; these three do no I/O. ``service`` joins them to the event loop, the bus and the edges.
"""

from pipespec.gateway.resume.errors import beyond_the_end
from pipespec.gateway.resume.log import Frame
from pipespec.gateway.resume.metrics import ResumeMetrics
from pipespec.gateway.resume.reader import Reader
from pipespec.gateway.resume.service import Renderer, ResumeService, resuming
from pipespec.gateway.resume.token import StreamToken, parse_resume_id, parse_token

__all__ = [
    "Frame",
    "Reader",
    "Renderer",
    "ResumeMetrics",
    "ResumeService",
    "StreamToken",
    "beyond_the_end",
    "parse_resume_id",
    "parse_token",
    "resuming",
]
