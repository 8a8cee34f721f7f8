"""The HTTP API as an OpenAPI 3.1 document, made of the schemas that requests are checked with.

``make proto`` writes it to ``proto/openapi.json``; tests keep file and code in step and send what it allows and what it
forbids to a running gateway. It is not served: a gateway answers nothing that a client did not come for.
"""

from __future__ import annotations

import json
import sys
from typing import Any

from pydantic import BaseModel

from pipespec.gateway.openai.schema import ChatBody, CompletionBody
from pipespec.gateway.openai.unsupported import INERT

Json = dict[str, Any]

RANGES: dict[str, Json] = {
    "temperature": {"minimum": 0, "maximum": 100},
    "top_p": {"exclusiveMinimum": 0, "maximum": 1},
    "top_k": {"minimum": 0, "maximum": 2**31 - 1},
    "min_p": {"minimum": 0, "maximum": 1},
    "presence_penalty": {"minimum": -2, "maximum": 2},
    "frequency_penalty": {"minimum": -2, "maximum": 2},
    "repetition_penalty": {"exclusiveMinimum": 0, "maximum": 10},
}
"""Of sampling parameters, as ``Sampling`` checks them."""

_REFUSALS = {
    400: "The request cannot be served as it is; `param` names what is wrong.",
    401: "No key, or none that is known.",
    403: "The key may not use this model.",
    404: "There is no such model or path.",
    405: "Another method is expected.",
    408: "The body did not arrive in time.",
    409: "A request with this id is active, or another connection has resumed the stream.",
    410: "The stream cannot be resumed any more.",
    413: "The body is larger than 2 MiB.",
    415: "The content type is not application/json.",
    429: "No room for another session now.",
    431: "The headers are larger than 16 KiB.",
    499: "The stream was ended by its client.",
    500: "A bug of ours; the request id finds it in the log.",
    503: "No target is ready, the gateway is shutting down, or the session was lost.",
    504: "The request took longer than it may.",
}


def openapi() -> Json:
    """The document."""
    definitions: Json = {}
    bodies = {body.__name__: _body(body, definitions) for body in (CompletionBody, ChatBody)}
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "PipeSpec",
            "version": "1",
            "description": "Compatible with OpenAI's API. Unknown parameters are refused, never ignored.",
        },
        "security": [{"key": []}, {}],
        "paths": {
            "/v1/completions": _generation("CompletionBody", "text_completion"),
            "/v1/chat/completions": _generation("ChatBody", "chat.completion"),
            "/v1/streams/{token}": _stream(),
            "/v1/models": {"get": _reading("The models.", _listed())},
            "/v1/models/{name}": {"get": _reading("One model.", _ref("Model"), parameter="name")},
            "/livez": {"get": {"security": [], **_probe("The event loop turns.")}},
            "/healthz": {"get": _probe("The same as /livez, with a key.", 401)},
            "/readyz": {"get": {"security": [], **_probe("A request sent now would be served.", 503)}},
        },
        "components": {
            "schemas": {**definitions, **bodies, "Model": _model(), "Error": _error()},
            "securitySchemes": {"key": {"type": "http", "scheme": "bearer"}},
        },
    }


def _body(body: type[BaseModel], definitions: Json) -> Json:
    """Schema of a body: also what is taken and changes nothing, and that null is the same as left out."""
    schema = body.model_json_schema(ref_template="#/components/schemas/{model}")
    definitions.update(schema.pop("$defs", {}))
    required = schema["required"]
    properties = {name: {**field, **RANGES.get(name, {})} for name, field in schema["properties"].items()}
    optional = {name: _or_null(field) for name, field in properties.items() if name not in required}
    inert = {
        name: {"enum": [*values, None], "description": "Has no effect; other values are refused."}
        for name, values in INERT.items()
    }
    return {**schema, "properties": {**properties, **optional, **inert}}


def _or_null(field: Json) -> Json:
    return {"anyOf": [field, {"type": "null"}]}


def _generation(body: str, kind: str) -> Json:
    whole = {
        "type": "object",
        "required": ["id", "object", "created", "model", "choices", "usage"],
        "properties": {
            "id": {"type": "string"},
            "object": {"const": kind},
            "created": {"type": "integer"},
            "model": {"type": "string"},
            "choices": {"type": "array", "minItems": 1, "items": _choice(is_chat=kind == "chat.completion")},
            "usage": {"type": "object", "required": ["prompt_tokens", "completion_tokens", "total_tokens"]},
            "stats": {"type": "object"},
        },
        "additionalProperties": False,
    }
    answer = {
        "description": "The whole answer; with `stream`, server-sent events that end with `[DONE]` after success alone.",
        "headers": _request_id(),
        "content": {
            "application/json": {"schema": whole},
            "text/event-stream": {"schema": _event()},
        },
    }
    return {
        "post": {
            "operationId": kind,
            "requestBody": {"required": True, "content": {"application/json": {"schema": _ref(body)}}},
            "responses": {
                "200": answer,
                **_refusals(*(status for status in _REFUSALS if status not in (410, 499))),
            },
        }
    }


def _event() -> Json:
    """Schema of one server-sent event: a chunk as JSON, ``[DONE]``, or the error that ends a stream instead."""
    fields = {"data": {"type": "string"}, "event": {"enum": ["message", "error"]}, "id": {"type": "string"}}
    return {"type": "object", "required": ["data"], "properties": fields}


def _stream() -> Json:
    """What may be done with a resumable stream."""
    token = {"name": "token", "in": "path", "required": True, "schema": {"type": "string", "minLength": 1}}
    last = {"name": "last-event-id", "in": "header", "required": False, "schema": {"type": "string"}}
    content = {"text/event-stream": {"schema": _event()}}
    rest = {"description": "What follows the event.", "headers": _request_id(), "content": content}
    over = {"description": "The stream is over.", "headers": _request_id()}
    refusals = _refusals(400, 401, 403, 404, 405, 409, 410, 429, 431, 499, 500, 503, 504)
    return {
        "get": {"parameters": [token, last], "responses": {"200": rest, **refusals}},
        "delete": {"parameters": [token], "responses": {"204": over, **refusals}},
    }


def _choice(*, is_chat: bool) -> Json:
    said = {"message": {"type": "object", "required": ["role", "content"]}}
    text = {"text": {"type": "string"}}
    fields = {
        "index": {"type": "integer"},
        "finish_reason": {"enum": ["stop", "length"]},
        "logprobs": {"type": "null"},
        "token_ids": {"type": "array", "items": {"type": "integer"}},
        **(said if is_chat else text),
    }
    required = [name for name in fields if name != "token_ids"]
    return {"type": "object", "required": required, "properties": fields, "additionalProperties": False}


def _reading(description: str, schema: Json, *, parameter: str | None = None) -> Json:
    named = {"name": parameter, "in": "path", "required": True, "schema": {"type": "string", "minLength": 1}}
    content = {"application/json": {"schema": schema}}
    answer = {"description": description, "headers": _request_id(), "content": content}
    responses = {"200": answer, **_refusals(400, 401, 403, 404, 405, 431)}
    return {"responses": responses, **({"parameters": [named]} if parameter else {})}


def _probe(description: str, *statuses: int) -> Json:
    content = {"application/json": {"schema": {"type": "object", "required": ["status"]}}}
    answer = {"description": description, "headers": _request_id(), "content": content}
    return {"responses": {"200": answer, **_refusals(400, 405, 431, *statuses)}}


def _listed() -> Json:
    models = {"type": "array", "items": _ref("Model")}
    return {
        "type": "object",
        "required": ["object", "data"],
        "properties": {"object": {"const": "list"}, "data": models},
    }


def _model() -> Json:
    fields = {
        "id": {"type": "string"},
        "object": {"const": "model"},
        "created": {"type": "integer"},
        "owned_by": {"type": "string"},
    }
    return {"type": "object", "required": list(fields), "properties": fields, "additionalProperties": False}


def _error() -> Json:
    fields = {
        "message": {"type": "string"},
        "type": {"type": "string"},
        "param": {"type": ["string", "null"]},
        "code": {"type": "string"},
        "request_id": {"type": "string"},
    }
    error = {"type": "object", "required": list(fields), "properties": fields, "additionalProperties": False}
    return {
        "type": "object",
        "required": ["error"],
        "properties": {"error": error},
        "additionalProperties": False,
    }


def _refusals(*statuses: int) -> Json:
    return {str(status): _refusal(status) for status in statuses}


def _refusal(status: int) -> Json:
    seconds = {
        "description": "Seconds.",
        "required": True,
        "schema": {"type": "string", "pattern": "^[0-9]+$"},
    }
    retry = {"retry-after": seconds} if status in (429, 503) else {}
    content = {"application/json": {"schema": _ref("Error")}}
    return {"description": _REFUSALS[status], "headers": {**_request_id(), **retry}, "content": content}


def _request_id() -> Json:
    return {"x-request-id": {"required": True, "schema": {"type": "string"}}}


def _ref(name: str) -> Json:
    return {"$ref": f"#/components/schemas/{name}"}


if __name__ == "__main__":
    json.dump(openapi(), sys.stdout, indent=1)
    sys.stdout.write("\n")
