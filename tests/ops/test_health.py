"""The health server answers truthfully over real HTTP."""

from __future__ import annotations

import socket
import struct
import threading
import time
from collections.abc import Iterator

import httpx
import pytest
from prometheus_client import Counter, Gauge

from pipespec.ops.errors import SettingsError
from pipespec.ops.health import MAX_CONNECTIONS, HealthServer

_SEEN = Counter("pipespec_test_health_total", "Seen by the test")


class Service:
    alive = True
    ready = False


@pytest.fixture
def service() -> Service:
    return Service()


@pytest.fixture
def server(service: Service) -> Iterator[HealthServer]:
    health = HealthServer(
        host="127.0.0.1", port=0, is_alive=lambda: service.alive, is_ready=lambda: service.ready
    )
    with health:
        yield health


def get(server: HealthServer, path: str) -> httpx.Response:
    return httpx.get(f"{server.url}{path}", trust_env=False)


@pytest.mark.parametrize("path", ["/healthz", "/livez"])
def test_liveness_follows_the_loop(server: HealthServer, service: Service, path: str) -> None:
    assert get(server, path).status_code == 200
    service.alive = False
    response = get(server, path)
    assert response.status_code == 503
    assert response.json() == {"status": "unavailable"}


def test_readiness_is_separate_from_liveness(server: HealthServer, service: Service) -> None:
    assert get(server, "/readyz").status_code == 503
    service.ready = True
    assert get(server, "/readyz").json() == {"status": "ok"}


def test_metrics_are_the_process_s_and_those_registered_here(server: HealthServer) -> None:
    _SEEN.inc(3)
    depth = Gauge("pipespec_test_queue_messages", "Waiting", registry=None)
    depth.set(4)
    server.register(depth)
    response = get(server, "/metrics?name=x")
    assert response.headers["content-type"].startswith("text/plain")
    assert "pipespec_test_health_total 3.0" in response.text
    assert "pipespec_test_queue_messages 4.0" in response.text


def test_an_unknown_path_is_not_found(server: HealthServer) -> None:
    assert get(server, "/nothing").status_code == 404


def test_a_port_in_use_is_a_settings_error_that_names_it(server: HealthServer) -> None:
    with pytest.raises(SettingsError, match=f"127.0.0.1:{port_of(server)}"):
        HealthServer(host="127.0.0.1", port=port_of(server), is_alive=lambda: True, is_ready=lambda: True)


def test_an_ipv6_address_is_served_and_bracketed_in_the_url() -> None:
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        pytest.skip("this machine has no IPv6")
    with HealthServer(host="::1", port=0, is_alive=lambda: True, is_ready=lambda: True) as health:
        assert health.url == f"http://[::1]:{port_of(health)}"
        assert get(health, "/livez").status_code == 200


def test_a_silent_client_does_not_keep_others_from_their_answer(server: HealthServer) -> None:
    with socket.create_connection(("127.0.0.1", port_of(server))):
        assert get(server, "/healthz").status_code == 200


def test_the_end_of_the_block_frees_the_port() -> None:
    with HealthServer(host="127.0.0.1", port=0, is_alive=lambda: True, is_ready=lambda: True) as health:
        port = port_of(health)
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port), timeout=5)


def port_of(server: HealthServer) -> int:
    return int(server.url.rpartition(":")[2])


def test_a_probe_that_hangs_up_is_not_news(capfd: pytest.CaptureFixture[str]) -> None:
    gone, answered = threading.Event(), threading.Event()

    def is_ready() -> bool:
        gone.wait(10)
        return True

    with HealthServer(host="127.0.0.1", port=0, is_alive=lambda: True, is_ready=is_ready) as health:
        port = int(health.url.rpartition(":")[2])
        handle_error = health._server.handle_error

        def watched(request: object, client: object) -> None:
            handle_error(request, client)
            answered.set()

        health._server.handle_error = watched  # type: ignore[method-assign]  # to know when it has happened
        probe = socket.create_connection(("127.0.0.1", port))
        probe.sendall(b"GET /readyz HTTP/1.0\r\n\r\n")
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        probe.close()
        gone.set()
        assert answered.wait(10)
    assert "Traceback" not in "".join(capfd.readouterr())


def test_connections_beyond_the_limit_are_closed_and_those_that_end_make_room(
    server: HealthServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "pipespec.ops.health._Handler.timeout", None
    )  # silence lasts as long as the test wants
    host, port = server.url.removeprefix("http://").split(":")
    silent = [socket.create_connection((host, int(port))) for _ in range(MAX_CONNECTIONS)]
    with socket.create_connection((host, int(port)), timeout=60) as one_more:
        assert one_more.recv(1) == b""
    for connection in silent:
        connection.close()
    until = time.monotonic() + 60
    while True:
        try:
            assert get(server, "/livez").status_code == 200
        except httpx.HTTPError:
            assert time.monotonic() < until
        else:
            return
