"""A broker in a network namespace of its own, and a wire to it for every other process: packets can be lost for good.

Wire k is a veth pair: ``10.201.x.4k+1`` here, ``10.201.x.4k+2`` at the hub. Each process knows the broker by its own wire's
far address, so dropping what passes one interface of the hub cuts one process, one way or both, without a reset: what a
pulled cable does. Nothing outside the namespace is filtered. Needs root, ``ip`` and ``iptables``.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from enum import Enum

from chaos.fleet import Fleet
from pipespec.ops.pipeline import BrokerSettings, Pipeline


class Way(Enum):
    """Which packets are lost, as the process sees it."""

    FROM = "INPUT", "-i"
    TO = "OUTPUT", "-o"


def why_not() -> str:
    """Why there can be no hub here; empty where there can."""
    for program in ("ip", "iptables"):
        if shutil.which(program) is None:
            return f"network namespaces need {program}"
    if os.geteuid() != 0:
        return "network namespaces need root"
    name = f"pschaos-try-{os.getpid()}"
    made = _try("ip", "netns", "add", name)
    if made.returncode != 0:
        return f"network namespaces are not permitted here: {made.stderr.strip()}"
    _run("ip", "netns", "del", name)
    return ""


class Hub:
    """The namespace and its wires, by name of the process at the other end."""

    def __init__(self, names: list[str]) -> None:
        self.namespace = f"pschaos-{os.getpid()}"
        self._net = f"10.201.{os.getpid() % 250}"
        self._wires = {name: index for index, name in enumerate(names)}

    def address(self, name: str) -> str:
        """The broker's, for one process."""
        return f"{self._net}.{4 * self._wires[name] + 2}"

    def open(self) -> None:
        """Make the namespace and all wires."""
        _run("ip", "netns", "add", self.namespace)
        self.inside("ip", "link", "set", "lo", "up")
        for index in self._wires.values():
            here, there = f"psc{os.getpid() % 10**6}-{index}", f"wire{index}"
            _run("ip", "link", "add", here, "type", "veth", "peer", "name", there, "netns", self.namespace)
            _run("ip", "addr", "add", f"{self._net}.{4 * index + 1}/30", "dev", here)
            _run("ip", "link", "set", here, "up")
            self.inside("ip", "addr", "add", f"{self._net}.{4 * index + 2}/30", "dev", there)
            self.inside("ip", "link", "set", there, "up")

    def close(self) -> None:
        """Remove the namespace; the wires go with it."""
        _try("ip", "netns", "del", self.namespace)

    def inside(self, *command: str) -> None:
        """Run a command in the namespace."""
        _run("ip", "netns", "exec", self.namespace, *command)

    def cut(self, name: str, *ways: Way) -> None:
        """Lose all packets from or to a process."""
        for way in ways:
            chain, option = way.value
            self.inside("iptables", "-A", chain, option, f"wire{self._wires[name]}", "-j", "DROP")

    def heal(self) -> None:
        """Lose no more packets."""
        self.inside("iptables", "-F")


def _try(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, check=False)


def _run(*command: str) -> None:
    done = _try(*command)
    assert done.returncode == 0, f"{' '.join(command)}: {done.stderr}"


@contextmanager
def wired(fleet: Fleet) -> Iterator[Hub]:
    """Put the fleet's only broker into a hub and wire all others to it; to be done before they are started."""
    others = [name for name in fleet.services if name != "broker-0"]
    hub = Hub(others)
    try:
        hub.open()
        broker = fleet.broker()
        argv = ("ip", "netns", "exec", hub.namespace, *broker.spec.argv)
        url = broker.spec.ready_url.replace("127.0.0.1", hub.address(others[0]))
        broker.spec = replace(broker.spec, argv=argv, ready_url=url)
        for name in others:
            service = fleet.services[name]
            pipeline = fleet.gateways.get(name, fleet.pipeline)
            service.reads(fleet.write(_with_broker(pipeline, hub.address(name)), f"wired-{name}"))
        yield hub
    finally:
        hub.close()


def _with_broker(pipeline: Pipeline, host: str) -> Pipeline:
    broker: BrokerSettings = pipeline.brokers[0].model_copy(update={"host": host})
    return pipeline.model_copy(update={"brokers": (broker,)})
