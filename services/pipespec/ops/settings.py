"""What all parts of the pipeline file share: unknown keys are errors, nothing changes after it was read."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

Port = Annotated[
    int, Field(ge=0, le=65535, description="TCP port; 0 picks a free one (under `pipespec up` only)")
]


class Settings(BaseModel):
    """A part of the pipeline file."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)
