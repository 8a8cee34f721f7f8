"""What a person is told of a running pipeline can be used as it is."""

from __future__ import annotations

from typing import Any

from pipespec.cli.local.endpoints import example, grpc_url, http_url, zmq_url
from pipespec.ops.pipeline import Pipeline, parse_pipeline

TLS = {"tls_certificate": "tls.crt", "tls_key": "tls.key"}


def pipeline(**gateway: Any) -> Pipeline:
    return parse_pipeline({"stages": [{"model": "a/b"}], "gateway": gateway}, source="test")


def test_without_keys_and_certificate_everything_is_plain() -> None:
    plain = pipeline()
    assert http_url(plain) == "http://127.0.0.1:8000/v1"
    assert grpc_url(plain) == "grpc://127.0.0.1:8001"
    assert "Authorization" not in example(plain)


def test_with_a_certificate_http_and_grpc_are_asked_over_tls() -> None:
    encrypted = pipeline(**TLS)
    assert http_url(encrypted) == "https://127.0.0.1:8000/v1"
    assert grpc_url(encrypted) == "grpcs://127.0.0.1:8001"
    assert zmq_url(encrypted) == "zmq://127.0.0.1:8002"


def test_with_keys_the_example_takes_one_from_the_variable_of_the_other_commands() -> None:
    assert '-H "Authorization: Bearer $PIPESPEC_API_KEY"' in example(
        pipeline(api_keys="keys.yaml", zmq_insecure=True)
    )
