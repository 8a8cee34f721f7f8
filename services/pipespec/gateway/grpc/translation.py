"""Between the messages of ``pipespec.v1`` and the gateway's own words."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict

from pipespec.gateway.backend import StageStats
from pipespec.gateway.generation import (
    ChatPrompt,
    Delta,
    Done,
    Event,
    FinishReason,
    GenerationRequest,
    Prompt,
    TextPrompt,
    TokenPrompt,
    new_request_id,
)
from pipespec.gateway.generation.request import DEFAULT_TEMPERATURE
from pipespec.gateway.resume import Frame, StreamToken
from pipespec.gateway.text import ChatMessage
from pipespec.ops.errors import RequestError
from pipespec.protocol.ids import TokenId
from pipespec.protocol.sampling import Sampling
from pipespec.v1 import pipespec_pb2 as pb

_ROLES = ("system", "user", "assistant")
_FINISH = {
    FinishReason.STOP: pb.FINISH_REASON_STOP,
    FinishReason.LENGTH: pb.FINISH_REASON_LENGTH,
}


def to_request(message: pb.GenerateRequest) -> GenerationRequest:
    """The request that ``message`` asks for.

    Raises:
        RequestError: a value is missing or out of range.
    """
    return GenerationRequest(
        request_id=message.request_id or new_request_id(),
        prompts=(_prompt(message),),
        sampling=_sampling(message.sampling),
        max_tokens=message.max_tokens if message.HasField("max_tokens") else None,
        seed=message.sampling.seed if message.sampling.HasField("seed") else None,
        stop=tuple(message.stop),
        speculate=message.speculate if message.HasField("speculate") else True,
        ignore_eos=message.ignore_eos,
        include_stats=message.include_stats,
    )


class FrameRenderer:
    """Words the events of a resumable stream, once, for all who will read it."""

    def frames(self, event: Event) -> Iterable[bytes]:
        """See ``Renderer``."""
        return (to_response(event).SerializeToString(),)

    def last_frames(self) -> Iterable[bytes]:
        """See ``Renderer``."""
        return ()


def resumable_response(token: StreamToken, frame: Frame) -> pb.GenerateResponse:
    """The message of an event of a resumable stream.

    ``completed`` has no name: whoever resumes after it gets it again, so that the end is never silent.
    """
    response = pb.GenerateResponse.FromString(frame.content)
    if response.WhichOneof("event") == "delta":
        response.resume_id = token.event(frame.index)
    return response


def to_response(event: Event) -> pb.GenerateResponse:
    """The message that says ``event``."""
    if isinstance(event, Delta):
        return pb.GenerateResponse(
            delta=pb.Delta(start=event.start, token_ids=event.token_ids, text=event.text)
        )
    return pb.GenerateResponse(completed=_completed(event))


def _completed(done: Done) -> pb.Completed:
    return pb.Completed(
        finish_reason=_FINISH[done.finish_reason],
        usage=pb.Usage(
            prompt_tokens=done.usage.prompt_tokens, completion_tokens=done.usage.completion_tokens
        ),
        stages=[_stage(stage) for stage in sorted(done.stats or (), key=lambda stage: stage.rank)],
    )


def _stage(stage: StageStats) -> pb.StageStats:
    return pb.StageStats(rank=stage.rank, name=stage.name, **asdict(stage.counters))


def _prompt(message: pb.GenerateRequest) -> Prompt:
    match message.WhichOneof("prompt"):
        case "text":
            return TextPrompt(message.text)
        case "token_ids":
            return TokenPrompt(tuple(TokenId(token) for token in message.token_ids.ids))
        case "chat":
            return ChatPrompt(_messages(message.chat))
        case _:
            raise RequestError(
                "there is no prompt; expected text, token_ids or chat",
                code="missing_required_parameter",
                param="prompt",
            )


def _messages(chat: pb.Chat) -> tuple[ChatMessage, ...]:
    if not chat.messages:
        raise RequestError("chat is empty; expected at least one message", code="invalid_value", param="chat")
    for message in chat.messages:
        if message.role not in _ROLES:
            raise RequestError(
                f"role is {message.role[:40]!r}; allowed: {', '.join(_ROLES)}",
                code="invalid_value",
                param="chat",
            )
    return tuple(ChatMessage(message.role, message.content) for message in chat.messages)


def _sampling(message: pb.Sampling) -> Sampling:
    return Sampling(
        temperature=message.temperature if message.HasField("temperature") else DEFAULT_TEMPERATURE,
        top_p=message.top_p if message.HasField("top_p") else 1.0,
        top_k=message.top_k,
        min_p=message.min_p,
        repetition_penalty=message.repetition_penalty if message.HasField("repetition_penalty") else 1.0,
        presence_penalty=message.presence_penalty,
        frequency_penalty=message.frequency_penalty,
        logit_bias=tuple(sorted(message.logit_bias.items())),
    )
