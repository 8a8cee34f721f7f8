"""What all settings files share: a key given twice or unknown is an error, nothing changes after it was read."""

from __future__ import annotations

from typing import Annotated, Any

import yaml
from pydantic import BaseModel, ConfigDict, Field

Port = Annotated[
    int, Field(ge=0, le=65535, description="TCP port; 0 picks a free one (under `pipespec up` only)")
]


class Settings(BaseModel):
    """A part of the pipeline file."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


class UniqueKeys(yaml.SafeLoader):
    """YAML as ``safe_load`` reads it, but a key that is given twice is an error; PyYAML lets the last one win."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """A mapping, each key once."""
        seen: set[str] = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and key.tag != "tag:yaml.org,2002:merge":
                if key.value in seen:
                    raise yaml.constructor.ConstructorError(
                        problem=f"the key {key.value!r} is given twice", problem_mark=key.start_mark
                    )
                seen.add(key.value)
        return super().construct_mapping(node, deep=deep)
