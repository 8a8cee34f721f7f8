"""A Kubernetes API on a thread of its own: kmock, with versions that grow, conflicts, watches that end, and faults on order.

kmock ignores ``resourceVersion`` and ``timeoutSeconds``, and changes an object even where the answer was to be an error;
a real server does neither.
"""

from __future__ import annotations

import asyncio
import itertools
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import aiohttp.web
import kmock
from kmock import KubernetesEmulator, Request, Server
from kubernetes.client import ApiClient, Configuration

NAMESPACE = "inference"
HANG_S = 600.0


@dataclass
class Fault:
    """What becomes of the next calls that fit.

    Attributes:
        method: of the call, such as ``PATCH``.
        path: what its path has in it.
        answer: a status, or ``hang``, or ``reset``, or ``late``: done, and never answered.
        times: calls.
        headers: of the answer.
        watch: whether it is for watches (True) or for other calls (False).
    """

    method: str
    path: str
    answer: int | str
    times: int = 1
    headers: dict[str, str] = field(default_factory=dict)
    watch: bool = False

    def fits(self, request: Request) -> bool:
        is_watch = request.params.get("watch") in ("true", "True")
        is_it = request.method.value.upper() == self.method and self.path in request.url.path
        return self.times > 0 and is_it and is_watch == self.watch


class ApiServer(KubernetesEmulator):  # type: ignore[misc] # attrs.define is not seen through
    """What the tests talk to. Its methods may be called from any thread.

    Attributes:
        faults: on order.
        scripts: events of the next watches, which end with them.
        watched_from: versions that watches began with.
        num_lists: lists that were given.
        calls: method and path.
        changes: bodies of the writes that were accepted.
    """

    def __attrs_post_init__(self) -> None:
        super().__attrs_post_init__()
        self.faults: list[Fault] = []
        self.scripts: list[list[Any]] = []
        self.watched_from: list[str] = []
        self.changes: list[Any] = []
        self.num_lists = 0
        self.calls: list[tuple[str, str]] = []
        self.versions = itertools.count(1)
        for resource in (
            "discovery.k8s.io/v1/endpointslices",
            "apps/v1/statefulsets",
            "coordination.k8s.io/v1/leases",
        ):
            self.resources[resource] = {"namespaced": True}

    def fail(self, method: str, path: str, answer: int | str, **options: Any) -> Fault:
        """Order a fault."""
        self.faults.append(Fault(method, path, answer, **options))
        return self.faults[-1]

    def num_calls(self, method: str, path: str) -> int:
        """Calls so far whose path has ``path`` in it."""
        return sum(called == method and path in where for called, where in list(self.calls))

    def store(self, resource: str, name: str, document: dict[str, Any]) -> None:
        """Have an object without telling those who watch."""
        metadata = {"name": name, "namespace": NAMESPACE, "resourceVersion": str(next(self.versions))}
        labels = document.get("metadata", {})
        self.objects[resource, NAMESPACE, name] = {**document, "metadata": {**labels, **metadata}}

    def stored(self, resource: str, name: str) -> dict[str, Any]:
        """An object as it is."""
        return dict(self.objects[resource, NAMESPACE, name])

    async def _handle(self, request: Request) -> aiohttp.web.StreamResponse:
        self.calls.append((request.method.value.upper(), request.url.path))
        fault = next((fault for fault in self.faults if fault.fits(request)), None)
        if fault is not None:
            fault.times -= 1
            if fault.answer == "late":
                self._versioned(request)
                await super()._handle(request)
            return await _misbehave(fault, request)
        if request.action in (kmock.action.UPDATE, kmock.action.CREATE) and (
            conflict := self._versioned(request)
        ):
            return conflict
        return await super()._handle(request)

    def _versioned(self, request: Request) -> aiohttp.web.Response | None:
        metadata = request.data.setdefault("metadata", {})
        expected = metadata.get("resourceVersion")
        if expected:
            key = (request.resource, request.namespace, request.name)
            if self.stored(*key[::2])["metadata"].get("resourceVersion") != expected:
                return _status(409, {})
        metadata["resourceVersion"] = str(next(self.versions))
        self.changes.append(request.data)
        return None

    async def _serve_list(self, request: Request) -> Any:
        self.num_lists += 1
        answer = await super()._serve_list(request)
        return {**answer, "metadata": {"resourceVersion": str(next(self.versions))}}

    async def _serve_watch(self, request: Request) -> AsyncIterator[Any]:
        self.watched_from.append(request.params.get("resourceVersion", ""))
        may_have_bookmarks = request.params.get("allowWatchBookmarks") in ("true", "True")
        if self.scripts:
            yield b""
            for event in self.scripts.pop(0):
                if may_have_bookmarks or "BOOKMARK" not in str(event):
                    yield event
            return
        loop = asyncio.get_running_loop()
        until_s = loop.time() + float(request.params.get("timeoutSeconds", 3600))
        events = aiter(super()._serve_watch(request))
        while (left_s := until_s - loop.time()) > 0:
            try:
                yield await asyncio.wait_for(anext(events), left_s)
            except TimeoutError:
                return


async def _misbehave(fault: Fault, request: Request) -> aiohttp.web.StreamResponse:
    if fault.answer in ("hang", "late"):
        await asyncio.sleep(HANG_S)
    if fault.answer == "reset":
        request._raw_request.transport.abort()
        return aiohttp.web.Response()
    return _status(int(fault.answer), fault.headers)


def _status(code: int, headers: dict[str, str]) -> aiohttp.web.Response:
    body = {"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code, "message": "as ordered"}
    return aiohttp.web.json_response(body, status=code, headers=headers)


@contextmanager
def running_api() -> Iterator[tuple[ApiServer, str]]:
    """The server and its URL, for as long as the block lasts."""
    started: list[tuple[ApiServer, str]] = []
    ready = threading.Event()
    stops: list[Callable[[], None]] = []

    async def serve() -> None:
        stop, loop = asyncio.Event(), asyncio.get_running_loop()
        async with ApiServer() as api, Server(api) as server:
            stops.append(lambda: loop.call_soon_threadsafe(stop.set))
            started.append((api, str(server.url).rstrip("/")))
            ready.set()
            await stop.wait()

    thread = threading.Thread(target=lambda: asyncio.run(serve()), name="api-server")
    thread.start()
    assert ready.wait(30)
    try:
        yield started[0]
    finally:
        stops[0]()
        thread.join(30)


def client_of(url: str) -> ApiClient:
    """A connection as ``connect`` makes it."""
    configuration = Configuration(host=url)
    configuration.retries = False
    return ApiClient(configuration)


def stateful_set(replicas: int) -> dict[str, Any]:
    """One that has what it should have."""
    return {
        "apiVersion": "apps/v1",
        "kind": "StatefulSet",
        "spec": {"replicas": replicas},
        "status": {"replicas": replicas},
    }
