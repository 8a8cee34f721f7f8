"""A pipeline for one command: free ports on loopback, a folder that is removed, no process left at the end."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pipespec.cli.local.layout import lay_out, process_specs, stop_grace_s
from pipespec.cli.local.run_folder import RunFolder
from pipespec.cli.progress import fetch_missing, stderr, waiting_line
from pipespec.cli.supervisor.restarts import RestartPolicy
from pipespec.cli.supervisor.supervisor import Supervisor
from pipespec.cli.supervisor.thread import supervised
from pipespec.ops.pipeline import Pipeline

START_TIMEOUT_S = 600.0


@contextmanager
def temporary_pipeline(pipeline: Pipeline) -> Iterator[Pipeline]:
    """Fetch what is missing, start ``pipeline`` on free ports, yield it resolved when it is ready.

    Raises:
        ModelError: a model cannot be had.
        KeepsDying: a process does not start; the message holds its last lines.
        NotReady: it took longer than ``START_TIMEOUT_S``.
    """
    fetch_missing(pipeline.stages)
    with tempfile.TemporaryDirectory(prefix="pipespec-") as path:
        folder = RunFolder(Path(path))
        layout = lay_out(_on_free_ports(pipeline))
        folder.write(layout, ready=False)
        specs = process_specs(layout, file=folder.pipeline_file, logs=folder.logs)
        supervisor = Supervisor(
            specs,
            policy=RestartPolicy(),
            on_note=lambda note: stderr.print(note, markup=False, soft_wrap=True),
        )
        with supervised(supervisor, grace_s=stop_grace_s(layout.pipeline)) as thread:
            with waiting_line("starting a temporary pipeline") as on_waiting:
                thread.wait_until_ready(START_TIMEOUT_S, on_waiting=on_waiting)
            yield layout.pipeline


def _on_free_ports(pipeline: Pipeline) -> Pipeline:
    zeros = {"publish_port": 0, "subscribe_port": 0, "metrics_port": 0}
    gateway = {
        # For this command alone, so on loopback and without keys.
        "host": "127.0.0.1",
        "api_keys": None,
        "insecure": False,
        "tls_certificate": None,
        "tls_key": None,
        "zmq_keys": None,
        "zmq_insecure": False,
        "http_port": 0,
        "grpc_port": 0,
        "zmq_port": 0,
        "metrics_port": 0,
        "drain_delay_s": 0,
        "drain_timeout_s": 0,
    }
    return pipeline.model_copy(
        update={
            "brokers": tuple(broker.model_copy(update=zeros) for broker in pipeline.brokers),
            "gateway": pipeline.gateway.model_copy(update=gateway),
            "stage_metrics_port": 0,
        }
    )
