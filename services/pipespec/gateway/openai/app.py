"""The FastAPI application: routes, and how errors are worded.

Everything about generation is in ``pipespec.gateway.generation``; everything about OpenAI's words is beside this file.
"""

from __future__ import annotations

import time
from typing import Any

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, Response
from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from pipespec.gateway.access import KeyRing, Principal, name_of
from pipespec.gateway.backend import Backend
from pipespec.gateway.gate import Arriving
from pipespec.gateway.generation import GenerationRequest, Generator
from pipespec.gateway.openai.answers import Answer
from pipespec.gateway.openai.body import read_body
from pipespec.gateway.openai.border import Border
from pipespec.gateway.openai.disconnect import unless_disconnected
from pipespec.gateway.openai.errors import CLIENT_CLOSED_REQUEST, error_response, internal_error
from pipespec.gateway.openai.event_stream import KEEP_ALIVE_S, FrameRenderer, live, resumable
from pipespec.gateway.openai.guard import Guard
from pipespec.gateway.openai.schema import ChatBody, CompletionBody, GenerationBody
from pipespec.gateway.resume import ResumeService, parse_resume_id, parse_token, resuming
from pipespec.gateway.text import TextModel
from pipespec.ops.errors import RequestError, Unavailable
from pipespec.ops.pipeline import GatewaySettings

PROTOCOL = "openai"
"""Of requests, in metrics, and of the frames of resumable streams."""


def create_app(
    *,
    backend: Backend,
    text: TextModel,
    settings: GatewaySettings,
    model_name: str,
    keys: KeyRing | None = None,
    resume: ResumeService | None = None,
    keep_alive_s: float = KEEP_ALIVE_S,
) -> FastAPI:
    """The application, for one model.

    Args:
        backend: the pipeline.
        text: the model's tokenizer and chat template.
        settings: defaults and limits of requests.
        model_name: what clients call the model.
        keys: of those who may use it; None lets everybody in.
        resume: keeps resumable streams; None where that is turned off.
        keep_alive_s: a quiet stream gets a comment this often.
    """
    generator = Generator(
        backend=backend, text=text, settings=settings, model_name=model_name, protocol=PROTOCOL
    )
    app = FastAPI(title="PipeSpec", openapi_url=None, redirect_slashes=False)
    app.state.generator = generator  # for the server, which ends what runs too long at its own end
    _add_models(app, generator)
    _add_generation(app, generator, resume, arriving=backend.arriving, keep_alive_s=keep_alive_s)
    _add_streams(app, resume, keep_alive_s=keep_alive_s)
    _add_health(app, generator)
    _add_errors(app)
    app.add_middleware(Guard, keys=keys)
    app.add_middleware(Border)
    return app


def _add_generation(
    app: FastAPI,
    generator: Generator,
    resume: ResumeService | None,
    *,
    arriving: Arriving,
    keep_alive_s: float,
) -> None:
    @app.post("/v1/completions")
    async def completions(request: Request) -> Response:
        return await serve(request, await read_body(request, CompletionBody, arriving=arriving))

    @app.post("/v1/chat/completions")
    async def chat_completions(request: Request) -> Response:
        return await serve(request, await read_body(request, ChatBody, arriving=arriving))

    async def serve(request: Request, body: GenerationBody) -> Response:
        generator.check_model(body.model)
        request_id = _request_id(request)
        asked = body.to_request(request_id)
        answer = Answer(body, request_id=request_id)
        # The client may go while the prompt is tokenized or the session opened, so that is watched as well.
        principal = _principal(request)
        work = stream(asked, answer, body, principal) if body.stream else complete(asked, answer, principal)
        response = await unless_disconnected(work, request.receive)
        return Response(status_code=CLIENT_CLOSED_REQUEST) if response is None else response

    async def stream(
        asked: GenerationRequest, answer: Answer, body: GenerationBody, principal: Principal | None
    ) -> Response:
        keeper = resuming(resume) if body.resumable else None
        generation = await generator.start(asked, principal=principal)
        if keeper is None:
            return live(generation, answer=answer, request_id=asked.request_id, keep_alive_s=keep_alive_s)
        reader = keeper.start(
            generation, FrameRenderer(answer), protocol=PROTOCOL, principal=name_of(principal)
        )
        return resumable(reader, request_id=asked.request_id, keep_alive_s=keep_alive_s)

    async def complete(asked: GenerationRequest, answer: Answer, principal: Principal | None) -> Response:
        async with await generator.start(asked, principal=principal) as generation:
            events = [event async for event in generation]
        return JSONResponse(answer.whole(events))


def _add_streams(app: FastAPI, resume: ResumeService | None, *, keep_alive_s: float) -> None:
    @app.get("/v1/streams/{token}")
    async def resume_stream(request: Request, token: str) -> Response:
        stream = parse_token(token, param="stream")
        last, index = parse_resume_id(request.headers.get("last-event-id", token), param="last-event-id")
        if last != stream:
            raise RequestError(
                "last-event-id names an event of another stream",
                code="invalid_value",
                param="last-event-id",
            )
        principal = name_of(_principal(request))
        opening = resuming(resume).resume(stream, index, protocol=PROTOCOL, principal=principal)
        reader = await unless_disconnected(opening, request.receive)
        if reader is None:
            return Response(status_code=CLIENT_CLOSED_REQUEST)
        return resumable(reader, request_id=_request_id(request), keep_alive_s=keep_alive_s)

    @app.delete("/v1/streams/{token}")
    async def cancel_stream(request: Request, token: str) -> Response:
        stream, principal = parse_token(token, param="stream"), name_of(_principal(request))
        await resuming(resume).cancel(stream, protocol=PROTOCOL, principal=principal)
        return Response(status_code=204)


def _add_models(app: FastAPI, generator: Generator) -> None:
    created = int(time.time())  # noqa: TID251 - only shown

    def card() -> dict[str, Any]:
        return {"id": generator.model_name, "object": "model", "created": created, "owned_by": "pipespec"}

    @app.get("/v1/models")
    async def models(request: Request) -> dict[str, Any]:
        principal = _principal(request)
        is_theirs = principal is None or principal.may_use(generator.model_name)
        return {"object": "list", "data": [card()] if is_theirs else []}

    @app.get("/v1/models/{name:path}")
    async def model(request: Request, name: str) -> dict[str, Any]:
        generator.check_model(name)
        principal = _principal(request)
        if principal is not None:
            principal.check_model(name)
        return card()


def _add_health(app: FastAPI, generator: Generator) -> None:
    # An answer at all says that the event loop turns.
    @app.get("/healthz")
    @app.get("/livez")
    async def live() -> dict[str, str]:
        return {"status": "ok"}

    @app.get("/readyz")
    async def ready() -> dict[str, str]:
        if not generator.is_ready:
            raise Unavailable("no target replica is ready, or the gateway is draining", code="not_ready")
        return {"status": "ok"}


def _add_errors(app: FastAPI) -> None:
    @app.exception_handler(RequestError)
    async def refused(request: Request, error: RequestError) -> Response:
        return error_response(error, request_id=_request_id(request))

    @app.exception_handler(ClientDisconnect)
    async def gone(_request: Request, _error: ClientDisconnect) -> Response:
        return Response(status_code=CLIENT_CLOSED_REQUEST)

    @app.exception_handler(HTTPException)
    async def unrouted(request: Request, error: HTTPException) -> Response:
        code = "method_not_allowed" if error.status_code == 405 else "not_found"
        refusal = RequestError(f"{request.method} {request.url.path[:200]}: {error.detail}", code=code)
        response = error_response(refusal, request_id=_request_id(request))
        response.headers.update(error.headers or {})
        if error.status_code == 405:
            response.headers["allow"] = _allowed(app, request.url.path)
        return response

    @app.exception_handler(Exception)
    async def failed(request: Request, _error: Exception) -> Response:
        # Starlette raises the error again behind this answer, and the server logs it.
        return error_response(internal_error(), request_id=_request_id(request))


def _allowed(app: FastAPI, path: str) -> str:
    """Methods of all routes of a path; the error knows those of the first alone."""
    routes = [route for route in app.routes if isinstance(route, APIRoute) and route.path_regex.match(path)]
    return ", ".join(sorted({method for route in routes for method in route.methods or ()}))


def _request_id(request: Request) -> str:
    return str(request.state.request_id)


def _principal(request: Request) -> Principal | None:
    principal: Principal | None = request.state.principal
    return principal
