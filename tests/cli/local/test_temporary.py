"""A pipeline for one command is open to that command, and to nobody beyond this machine."""

from __future__ import annotations

from pipespec.cli.local.temporary import _on_free_ports
from pipespec.ops.pipeline import parse_pipeline


def test_it_is_on_loopback_without_keys_whatever_the_file_says() -> None:
    gateway = {"host": "10.0.0.7", "api_keys": "k", "tls_certificate": "c", "tls_key": "t", "zmq_keys": "z"}
    given = parse_pipeline({"stages": [{"model": "a/b"}], "gateway": gateway}, source="test")
    temporary = _on_free_ports(given)
    again = parse_pipeline(temporary.model_dump(mode="json"), source="as the services read it").gateway
    assert (again.host, again.api_keys, again.has_tls, again.http_port) == ("127.0.0.1", None, False, 0)
    assert again.zmq_keys is None
