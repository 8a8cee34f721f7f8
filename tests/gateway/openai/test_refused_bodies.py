"""Request bodies that are refused, before any session is opened, and what the refusal names."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from gateway.openai.asking import ASK, CHAT, error_of, post
from gateway.scripted_backend import ScriptedBackend
from pipespec.gateway.openai import create_app
from pipespec.gateway.text import TextModel
from pipespec.ops.pipeline import GatewaySettings


@pytest.fixture
async def asgi(
    backend: ScriptedBackend, text: TextModel, settings: GatewaySettings
) -> AsyncIterator[httpx.AsyncClient]:
    """The application without a server around it: enough for what is refused before anything is sent."""
    app = create_app(backend=backend, text=text, settings=settings, model_name="small")
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as client:
        yield client


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[1]",
        b'{"model": "small", "model": "small", "prompt": "x"}',
        b'{"model": "small", "prompt": "x", "temperature": NaN}',
        b'{"model": "small", "prompt": "x", "temperature": -Infinity}',
        b'{"model": "small", "prompt": ' + b"[" * 33 + b"]" * 33 + b"}",
        b'{"a":' * 100_000,
        b"[" * 1_000_000,
        b'{"model": "small", "prompt": "\\ud800"}',
        b'{"model": "small", "prompt": "\xff"}',
        b'{"model": "small", "prompt": "x", "seed": ' + b"9" * 5000 + b"}",
    ],
)
async def test_malformed_json_is_refused(asgi: httpx.AsyncClient, body: bytes) -> None:
    response = await post(asgi, body)
    assert response.status_code == 400
    assert error_of(response)["code"] == "invalid_json"


@pytest.mark.parametrize(
    ("field", "value"),
    [
        *(("max_tokens", value) for value in (0, -1, 10**18, 1.5, 1.0, "x", True)),
        *(("n", value) for value in (0, 5, 10**6, True)),
        *(("temperature", value) for value in (-1, 1e9, "1", True, 1e999)),
        *(("top_p", value) for value in (0, 2)),
        *(("top_k", value) for value in (-1, 1.5)),
        *(("min_p", value) for value in (-0.1, 1.1)),
        *(("presence_penalty", value) for value in (-2.1, 2.1)),
        *(("repetition_penalty", value) for value in (0, 11)),
        *(("seed", value) for value in (2**80, -(2**64), 1.5)),
        *(
            ("logit_bias", value)
            for value in ({"330": 1}, {"x": 1}, {"-1": 1}, {"5": "1"}, {"5": 101}, {"5": None}, [1])
        ),
        ("logit_bias", {str(token): 1 for token in range(301)}),
        *(("stop", value) for value in (["a"] * 5, "", [""], "x" * 257, [1], 1, ["a"] * 10_000)),
        *(("stream", value) for value in (1, "true")),
        *(
            ("prompt", value)
            for value in ("", [], [[]], [1, "a"], [True], 5, {"a": 1}, ["a"] * 33, [-1], [330], [2**70])
        ),
        ("stream_options", {"include_usage": True}),
        ("model", 5),
    ],
)
async def test_a_bad_value_is_refused_by_its_name(
    asgi: httpx.AsyncClient, backend: ScriptedBackend, field: str, value: Any
) -> None:
    body = json.dumps({**ASK, field: value}).replace("Infinity", "1e999").encode()
    response = await post(asgi, body)
    assert response.status_code == 400
    error = error_of(response)
    assert (error["param"] or "").split(".")[0] == field
    assert error["code"] == "invalid_value"
    assert error["type"] == "invalid_request_error"
    assert backend.opened == []


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("logprobs", 0),
        ("logprobs", 5),
        ("echo", True),
        ("best_of", 2),
        ("suffix", "x"),
        ("prompt_logprobs", 1),
        ("guided_regex", "foo**"),
        ("response_format", {"type": "json_object"}),
        ("tools", [{"type": "function"}]),
        ("chat_template", "{{ 1 }}"),
        ("chat_template_kwargs", {"tokenize": False}),
        ("trust_remote_code", True),
        ("max_completion_tokens", 5),
        ("temperature_", 0.5),
    ],
)
async def test_an_unsupported_parameter_is_refused_not_ignored(
    asgi: httpx.AsyncClient, backend: ScriptedBackend, field: str, value: Any
) -> None:
    response = await post(asgi, {**ASK, field: value})
    assert response.status_code == 400
    error = error_of(response)
    assert (error["code"], error["param"]) == ("unsupported_parameter", field)
    assert backend.opened == []


async def test_neutral_values_of_unsupported_parameters_pass(asgi: httpx.AsyncClient) -> None:
    neutral = {
        "logprobs": None,
        "echo": False,
        "best_of": 1,
        "response_format": {"type": "text"},
        "tools": [],
    }
    assert (await post(asgi, {**ASK, **neutral})).status_code == 200


@pytest.mark.parametrize(
    ("messages", "param"),
    [
        ([], "messages"),
        ([{"role": "wizard", "content": "x"}], "messages.0.role"),
        ([{"role": "user"}], "messages.0.content"),
        ([{"content": "x"}], "messages.0.role"),
        ([{"role": "user", "content": "x", "name": "y"}], "messages.0.name"),
        ([{"role": "user", "content": [{"type": "image_url", "image_url": "x"}]}], "messages.0.content"),
        (["x"], "messages.0"),
        ("x", "messages"),
    ],
)
async def test_bad_messages_are_refused(asgi: httpx.AsyncClient, messages: Any, param: str) -> None:
    response = await post(asgi, {"model": "small", "messages": messages}, "/v1/chat/completions")
    assert response.status_code == 400
    assert str(error_of(response)["param"]).startswith(param)


async def test_both_names_of_max_tokens_together_are_refused(asgi: httpx.AsyncClient) -> None:
    response = await post(asgi, {**CHAT, "max_tokens": 5, "max_completion_tokens": 5}, "/v1/chat/completions")
    assert response.status_code == 400
    assert error_of(response)["param"] == "max_tokens"


@pytest.mark.parametrize(("missing", "path"), [("model", "/v1/completions"), ("prompt", "/v1/completions")])
async def test_a_missing_parameter_is_named(asgi: httpx.AsyncClient, missing: str, path: str) -> None:
    response = await post(asgi, {name: value for name, value in ASK.items() if name != missing}, path)
    error = error_of(response)
    assert (response.status_code, error["code"], error["param"]) == (
        400,
        "missing_required_parameter",
        missing,
    )
