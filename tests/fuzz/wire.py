"""What comes in as bytes: a bus message, an HTTP body, a ZeroMQ message, a conversation. Each target takes bytes and fails loudly."""

from __future__ import annotations

import asyncio
import math

from starlette.requests import Request
from starlette.types import Message

from gateway.conftest import TEMPLATE, small_tokenizer
from pipespec.gateway.gate import Arriving
from pipespec.gateway.generation import GenerationRequest
from pipespec.gateway.openai.body import read_body
from pipespec.gateway.openai.errors import error_response
from pipespec.gateway.openai.schema import ChatBody, CompletionBody
from pipespec.gateway.text import ChatMessage, TextModel
from pipespec.gateway.text.chat_template import ChatTemplate
from pipespec.gateway.zmq.messages import BadMessage, Generate, pack_error, unpack
from pipespec.ops.errors import MalformedMessage, RequestError
from pipespec.protocol.codec import decode, encode

_TOKENIZER = small_tokenizer()
_TEXT = TextModel(_TOKENIZER, template=ChatTemplate(TEMPLATE, special_tokens={}))
_SPECIAL = frozenset(_TOKENIZER.get_added_tokens_decoder())
_HEADERS = [(b"content-type", b"application/json")]


def bus_message(data: bytes) -> None:
    """Refused as malformed, or an envelope that is the same after packing and unpacking."""
    try:
        envelope = decode(data)
    except MalformedMessage:
        return
    assert decode(encode(envelope)) == envelope


def http_body(data: bytes) -> None:
    """Refused with an answer that can be sent, or a request; of either endpoint, as the first byte says."""
    schema = (CompletionBody, ChatBody)[data[0] % 2 if data else 0]

    async def receive() -> Message:
        return {"type": "http.request", "body": data[1:], "more_body": False}

    async def ask() -> GenerationRequest | RequestError:
        request = Request({"type": "http", "method": "POST", "path": "/", "headers": _HEADERS}, receive)
        try:
            body = await read_body(request, schema, arriving=Arriving(1024))
            return body.to_request("fuzz")
        except RequestError as refusal:
            return refusal

    asked = _LOOP.run_until_complete(ask())
    if isinstance(asked, RequestError):
        assert error_response(asked, request_id="fuzz").status_code == 400
    else:
        assert math.isfinite(asked.sampling.temperature)
        assert len(asked.prompts) * asked.n <= 128


_LOOP = asyncio.new_event_loop()


def zmq_message(data: bytes) -> None:
    """Refused with an answer that can be packed, or a message, of which ``generate`` is a request or refused as well."""
    try:
        message = unpack([data])
        if isinstance(message, Generate):
            message.to_request()
    except BadMessage as error:
        pack_error(error.request_id, error.answer)
    except RequestError as error:
        pack_error("fuzz", error)


def conversation(data: bytes) -> None:
    """What a user writes never becomes a control token, and comes out as it went in."""
    content = data.decode("utf-8", "replace")
    try:
        ids = _TEXT.render_chat([ChatMessage("user", content)])
    except RequestError as error:
        if "wrote more than" in str(error):
            return
        raise
    control = [token for token in ids if token in _SPECIAL]
    assert len(control) == 3, "one at the message's begin, one at its end, one for the answer"
    assert _TEXT.decode(ids) == f"user\n{content}\nassistant\n"
