"""What may be open: a bus and an edge outside loopback need keys or the explicit flag, wildcards a word of their own."""

from __future__ import annotations

from typing import Any

import pytest

from pipespec.ops.bus_security import is_loopback, is_wildcard
from pipespec.ops.errors import SettingsError
from pipespec.ops.pipeline import Pipeline, parse_pipeline

TARGET = {"kind": "emulated", "emulation": {"latency_ms": {1: 1}}}
KEYS = {"server_keys": "/keys/server", "client_keys": "/keys/client"}
REMOTE = [{"host": "broker-0.example", "bind": "10.0.0.7"}]


def parsed(**document: Any) -> Pipeline:
    return parse_pipeline({"stages": [TARGET], **document}, source="test")


@pytest.mark.parametrize(
    ("document", "said"),
    [
        ({"brokers": REMOTE}, ["broker-0.example is not loopback", "pipespec keys new", "bus.insecure"]),
        ({"brokers": [{"bind": "10.0.0.7"}]}, ["10.0.0.7 is not loopback"]),
        ({"brokers": [{"host": "127.0.0.1"}, *REMOTE]}, ["broker-0.example"]),
        ({"bus": {"server_keys": "/keys"}}, ["bus.client_keys is missing"]),
        ({"bus": {"client_keys": "/keys"}}, ["bus.server_keys is missing"]),
        ({"bus": {**KEYS, "insecure": True}}, ["keys and is 'insecure'"]),
        ({"bus": {"key": "x"}}, ["bus.key: unknown key", "client_keys, insecure, server_keys"]),
        (
            {"gateway": {"host": "10.0.0.7", "insecure": True}},
            ["gateway.host is 10.0.0.7", "zmq_keys", "zmq_insecure"],
        ),
        ({"gateway": {"api_keys": "/k"}}, ["gateway.api_keys is set", "gateway.zmq_keys", "zmq_insecure"]),
        ({"gateway": {"zmq_keys": "/k", "zmq_insecure": True}}, ["remove one of them"]),
        ({"stage_host": "0.0.0.0"}, ["stage_host is 0.0.0.0", "bind_any_address"]),  # noqa: S104 - refused
        ({"stage_host": "::"}, ["stage_host is ::"]),
        ({"brokers": [{"bind": "0.0.0.0"}], "bus": KEYS}, ["brokers[0].bind is 0.0.0.0"]),  # noqa: S104
        ({"gateway": {"host": "::", "insecure": True, "zmq_insecure": True}}, ["gateway.host is ::"]),
        ({"autoscaler": {"goal_ms": 50, "host": "0.0.0.0"}}, ["autoscaler.host is 0.0.0.0"]),  # noqa: S104
    ],
)
def test_what_would_be_open_stops_the_start_and_says_what_to_do(
    document: dict[str, Any], said: list[str]
) -> None:
    with pytest.raises(SettingsError) as caught:
        parsed(**document)
    for words in said:
        assert words in str(caught.value)


@pytest.mark.parametrize(
    "document",
    [
        {},
        {"brokers": [{"host": "::1"}, {"host": "localhost"}, {"host": "127.0.0.9"}]},
        {"brokers": REMOTE, "bus": KEYS},
        {"brokers": REMOTE, "bus": {"insecure": True}},
        {"gateway": {"host": "10.0.0.7", "insecure": True, "zmq_keys": "/keys/server"}},
        {"gateway": {"host": "10.0.0.7", "insecure": True, "zmq_insecure": True}},
        {"gateway": {"api_keys": "/k", "zmq_insecure": True}},
        {"gateway": {"api_keys": "/k", "zmq_keys": "/keys/server"}},
        {"brokers": [{"bind": "0.0.0.0"}], "bus": KEYS, "bind_any_address": True},  # noqa: S104 - with the flag
        {"stage_host": "::", "bind_any_address": True},
    ],
)
def test_loopback_needs_nothing_and_all_else_what_the_errors_say(document: dict[str, Any]) -> None:
    assert parsed(**document)


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("127.0.0.1", True),
        ("127.8.8.8", True),
        ("::1", True),
        ("localhost", True),
        ("localhost.example", False),
        ("10.0.0.1", False),
        ("0.0.0.0", False),  # noqa: S104 - asked about
        ("::", False),
    ],
)
def test_only_addresses_of_this_machine_and_localhost_are_loopback(host: str, expected: bool) -> None:
    assert is_loopback(host) is expected


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "*", "", "0", "0.0", "0x0", "::0", "::ffff:0.0.0.0"])  # noqa: S104
def test_every_spelling_of_all_addresses_is_known(host: str) -> None:
    assert is_wildcard(host)


@pytest.mark.parametrize("host", ["127.0.0.1", "10.0.0.7", "::1", "localhost", "broker-0", "fe80::1"])
def test_one_address_is_not_all_addresses(host: str) -> None:
    assert not is_wildcard(host)
