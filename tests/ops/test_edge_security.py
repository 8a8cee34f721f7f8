"""Without keys the gateway is for this machine alone, unless it is told so."""

from __future__ import annotations

from typing import Any

import pytest

from pipespec.ops.errors import SettingsError
from pipespec.ops.pipeline import GatewaySettings, parse_pipeline


def gateway(**settings: Any) -> GatewaySettings:
    open_otherwise = {"bind_any_address": True, "gateway": {"zmq_insecure": True, **settings}}
    document = {"stages": [{"model": "owner/model"}], **open_otherwise}
    return parse_pipeline(document, source="test").gateway


@pytest.mark.parametrize("host", ["127.0.0.1", "127.1.2.3", "::1", "localhost"])
def test_loopback_needs_no_key(host: str) -> None:
    assert gateway(host=host).api_keys is None


@pytest.mark.parametrize(
    "host",
    ["0.0.0.0", "::", "10.0.0.7", "fe80::1", "example.com", "", "127.0.0.1.example.com"],  # noqa: S104 - refused
)
def test_another_host_needs_keys_or_the_word_that_it_is_open(host: str) -> None:
    with pytest.raises(SettingsError) as caught:
        gateway(host=host)
    for said in (f"'host' is {host}", "api-keys new FILE NAME", "'insecure' to true"):
        assert said in str(caught.value)
    assert gateway(host=host, api_keys="keys.yaml").api_keys is not None
    assert gateway(host=host, insecure=True).insecure


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"api_keys": "keys.yaml", "insecure": True}, "'api_keys' and 'insecure' are both given"),
        ({"tls_certificate": "tls.crt"}, "'tls_certificate' is given without 'tls_key'"),
        ({"tls_key": "tls.key"}, "'tls_key' is given without 'tls_certificate'"),
        ({"grpc_max_streams": 0}, "gateway.grpc_max_streams = 0"),
    ],
)
def test_settings_that_contradict_each_other_are_refused(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(SettingsError, match=said):
        gateway(**settings)


def test_a_certificate_alone_lets_nobody_in_from_outside() -> None:
    with pytest.raises(SettingsError, match="no key is asked for"):
        gateway(host="10.0.0.7", tls_certificate="tls.crt", tls_key="tls.key")
