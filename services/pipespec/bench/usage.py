"""What the processes of a pipeline spend: CPU time by role, and messages of the bus."""

from __future__ import annotations

from dataclasses import dataclass

import psutil

from pipespec.bench.metrics import metric
from pipespec.ops.pipeline import Pipeline

_ROLES = ("broker", "gateway", "stage")


@dataclass(frozen=True, slots=True)
class Usage:
    """Since the processes began.

    Attributes:
        cpu_s: CPU seconds by role; ``client`` is this process.
        forwarded: messages that the brokers took in.
    """

    cpu_s: dict[str, float]
    forwarded: int

    def since(self, earlier: Usage) -> Usage:
        """The difference."""
        spent = {role: total - earlier.cpu_s.get(role, 0.0) for role, total in self.cpu_s.items()}
        return Usage(spent, self.forwarded - earlier.forwarded)


def read_usage(pipeline: Pipeline) -> Usage:
    """Usage of a pipeline whose processes are this one's children."""
    me = psutil.Process()
    cpu_s = {**dict.fromkeys(_ROLES, 0.0), "client": _cpu_s(me)}
    for child in me.children(recursive=True):
        try:
            role = next((role for role in _ROLES if role in child.cmdline()), None)
            if role is not None:
                cpu_s[role] += _cpu_s(child)
        except psutil.NoSuchProcess:
            continue
    forwarded = sum(
        metric(broker.metrics_port, "pipespec_broker_received_messages_total") for broker in pipeline.brokers
    )
    return Usage(cpu_s, int(forwarded))


def _cpu_s(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)
