"""A cluster of one node: starts pods with ``podman kube play``, and does what kubelet and the controllers would.

It lives in namespaces of its own for processes, mounts and network, which ``make test-images`` makes: when the test ends,
however it ends, so does every pod.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from functools import cached_property
from http import HTTPStatus

import httpx
import yaml
from prometheus_client.parser import text_string_to_metric_families

from chart.release import Manifest, Release
from images.containers import RUN, Containers
from images.pods import translate
from images.workloads import Workload, hosts_of, workloads_of
from pipespec.ops.pipeline import Pipeline

NETWORK = "pods"
SUBNET = "10.89.7"
METRICS_PORT = 9090
READY_S = 120.0
POLL_S = 0.1
STOP_S = 30.0
"""For podman itself."""


@dataclass
class Cluster:
    """Pods of one release.

    Attributes:
        running: manifests of the pods that were started and not ended by us, by name.
        ready_s: seconds from asking for a pod to its readiness, of its first start.
    """

    containers: Containers
    release: Release
    running: dict[str, Manifest] = field(default_factory=dict)
    ready_s: dict[str, float] = field(default_factory=dict)
    _asked_s: dict[str, float] = field(default_factory=dict)
    _addresses: dict[str, str] = field(default_factory=dict)

    def __enter__(self) -> Cluster:
        """Make the pods' network, start all workloads and wait until they are ready."""
        self.containers.run("podman", "network", "create", f"--subnet={SUBNET}.0/24", NETWORK)
        try:
            for workload in self.workloads.values():
                self.scale(workload, workload.replicas)
            self.await_ready(*self.running)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        """End everything at once."""
        self.containers.run("podman", "pod", "rm", "--force", "--time=0", "--all")
        self.containers.run("podman", "network", "rm", "--force", NETWORK)

    @cached_property
    def workloads(self) -> dict[str, Workload]:
        """By component."""
        return workloads_of(self.release)

    @property
    def pipeline(self) -> Pipeline:
        """What all services read."""
        return self.release.pipeline

    def address(self, pod: str) -> str:
        """Of a pod, whether it runs or not: here a name keeps its address."""
        return self._addresses.setdefault(pod, f"{SUBNET}.{10 + len(self._addresses)}")

    def scale(self, workload: Workload, replicas: int) -> list[str]:
        """Start the pods that are missing; names of all. Does not wait for them."""
        names = [workload.pod_name(ordinal) for ordinal in range(replicas)]
        for ordinal, name in enumerate(names):
            if name not in self.running:
                self.start(workload.pod(ordinal))
        return names

    def start(self, pod: Manifest) -> None:
        """Start a pod; when this returns, its container has been started."""
        name = pod["metadata"]["name"]
        first = [one for workload in self.workloads.values() for one in workload.pods]
        hosts = hosts_of(self.release, {one: self.address(one) for one in first})
        documents = [
            *self.release.of("ConfigMap").values(),
            translate(pod, folder=RUN / "volumes-of-pods", hosts=hosts),
        ]
        file = RUN / f"{name}.yaml"
        file.write_text(yaml.safe_dump_all(documents), encoding="utf-8")
        self.running[name] = pod
        self._asked_s[name] = time.monotonic()
        self.containers.run(
            "podman", "kube", "play", f"--network={NETWORK}", f"--ip={self.address(name)}", str(file)
        )

    def await_ready(self, *names: str) -> None:
        """Wait until the pods answer at ``/readyz``.

        Raises:
            RuntimeError: one has ended, or takes too long; with the end of its log.
        """
        until_s = time.monotonic() + READY_S
        waiting = set(names)
        while waiting:
            for name in sorted(waiting):
                if self.is_ready(name):
                    waiting.remove(name)
                    self.ready_s.setdefault(name, time.monotonic() - self._asked_s[name])
                elif not self.pid(name) or time.monotonic() >= until_s:
                    raise RuntimeError(f"{name} is not ready; it says:\n{self.log(name)[-3000:]}")
            time.sleep(POLL_S)

    def is_ready(self, name: str) -> bool:
        """Whether a gateway could use it."""
        try:
            answer = httpx.get(f"http://{self.address(name)}:{METRICS_PORT}/readyz", timeout=5)
        except httpx.TransportError:
            return False
        return answer.status_code == HTTPStatus.OK

    def end(self, name: str) -> int:
        """Ask a pod to end, as a cluster does: SIGTERM, then its grace. The status that it ended with; it leaves no trace."""
        grace_s = self.running[name]["spec"]["terminationGracePeriodSeconds"]
        stop = ("podman", "stop", f"--time={grace_s}", self._container(name))
        self.containers.run(*stop, timeout_s=grace_s + STOP_S)
        return self._remove(name)

    def kill(self, name: str) -> None:
        """End a pod without a word, as a node that dies."""
        self.containers.run("podman", "kill", "--signal=KILL", self._container(name))
        self._remove(name)

    def complete(self, pod: Manifest, *, timeout_s: float) -> str:
        """Run a pod that ends by itself; what it said.

        Raises:
            RuntimeError: it failed.
        """
        name = pod["metadata"]["name"]
        self.start(pod)
        self.containers.run("podman", "wait", self._container(name), timeout_s=timeout_s)
        said = self.log(name)
        if status := self._remove(name):
            raise RuntimeError(f"{name} ended with {status}; it said:\n{said}")
        return said

    def start_times(self) -> str:
        """``ready_s`` for people."""
        return ", ".join(f"{name} {seconds:.1f} s" for name, seconds in self.ready_s.items())

    def pid(self, name: str) -> int:
        """Of its container's first process, as seen from here; 0 when it has ended."""
        return int(self.containers.run("podman", "inspect", "--format={{.State.Pid}}", self._container(name)))

    def sessions(self, name: str) -> int:
        """Sessions that a stage's pod holds now."""
        metrics = httpx.get(f"http://{self.address(name)}:{METRICS_PORT}/metrics", timeout=5).text
        (family,) = (
            one for one in text_string_to_metric_families(metrics) if one.name == "pipespec_stage_sessions"
        )
        return int(family.samples[0].value)

    def log(self, name: str) -> str:
        """What its container has said, on both outputs."""
        return self.containers.run("podman", "logs", self._container(name))

    def _container(self, name: str) -> str:
        return f"{name}-{self.running[name]['spec']['containers'][0]['name']}"

    def _remove(self, name: str) -> int:
        status = self.containers.run(
            "podman", "inspect", "--format={{.State.ExitCode}}", self._container(name)
        )
        self.containers.run("podman", "pod", "rm", "--force", "--time=0", name)
        del self.running[name]
        return int(status)
