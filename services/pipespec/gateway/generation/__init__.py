"""What all client protocols share: a request, its check against the model, its events, its end."""

from pipespec.gateway.generation.choice import shutting_down
from pipespec.gateway.generation.events import Delta, Done, Event, FinishReason, Usage
from pipespec.gateway.generation.generation import Generation
from pipespec.gateway.generation.generator import Generator
from pipespec.gateway.generation.request import (
    ChatPrompt,
    GenerationRequest,
    Prompt,
    TextPrompt,
    TokenPrompt,
    new_request_id,
)

__all__ = [
    "ChatPrompt",
    "Delta",
    "Done",
    "Event",
    "FinishReason",
    "Generation",
    "GenerationRequest",
    "Generator",
    "Prompt",
    "TextPrompt",
    "TokenPrompt",
    "Usage",
    "new_request_id",
    "shutting_down",
]
