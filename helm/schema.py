"""Writes the chart's ``values.schema.json``: what is said by hand, joined with the settings of the pipeline file as they are.

``python -m helm.schema`` prints it. A key that the code does not know cannot be in the chart, and a key that the code has
is in the chart without anybody's doing.
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

import yaml

from pipespec.ops.pipeline import Pipeline

SOURCE = Path(__file__).parent / "values.schema.yaml"
_LARGEST = 2**53 - 1
"""Helm reads numbers as 64-bit floats: larger integers lose digits."""
_DROPPED = ("title", "format", "default")


def values_schema() -> dict[str, Any]:
    """The schema of the chart's values."""
    document = yaml.safe_load(SOURCE.read_text(encoding="utf-8"))
    pod = document["definitions"].pop("pod")
    settings = Pipeline.model_json_schema()["$defs"]
    _expand(document, pod=pod, settings=settings)
    return document  # type: ignore[no-any-return] # YAML of our own


def camel(key: str) -> str:
    """``drain_timeout_s`` as it is among the values: ``drainTimeoutS``."""
    first, *others = key.split("_")
    return first + "".join(part.capitalize() for part in others)


def _expand(node: Any, *, pod: dict[str, Any], settings: dict[str, Any]) -> None:
    if isinstance(node, list):
        for item in node:
            _expand(item, pod=pod, settings=settings)
    if not isinstance(node, dict):
        return
    own = dict(node.get("properties", {}))
    if node.pop("x-pod", False):
        own = {**pod, **own}
    chosen = node.pop("x-settings", None)
    if chosen is not None:
        own = {**_settings_properties(settings, **chosen), **own}
    if own:
        node["properties"] = dict(sorted(own.items()))
    for value in node.values():
        _expand(value, pod=pod, settings=settings)


def _settings_properties(
    definitions: dict[str, Any], *, model: str, without: tuple[str, ...] = ()
) -> dict[str, Any]:
    fields = definitions[model]["properties"]
    return {camel(key): _adapted(fields[key], definitions) for key in fields if key not in without}


def _adapted(node: Any, definitions: dict[str, Any]) -> Any:
    """A part of the code's schema, with its references resolved and its keys as values have them."""
    if isinstance(node, list):
        return [_adapted(item, definitions) for item in node]
    if not isinstance(node, dict):
        return node
    if "$ref" in node:
        return _adapted(definitions[node["$ref"].rsplit("/", 1)[1]], definitions)
    adapted = {key: _adapted(value, definitions) for key, value in node.items() if key not in _DROPPED}
    if "properties" in node:
        adapted["properties"] = {
            camel(key): _adapted(value, definitions) for key, value in node["properties"].items()
        }
        adapted["required"] = [camel(key) for key in node.get("required", ())]
    if node.get("exclusiveMaximum", 0) > _LARGEST:
        del adapted["exclusiveMaximum"]
        adapted["maximum"] = _LARGEST
    if "description" in adapted:
        adapted["description"] = re.sub(r"``", "`", adapted["description"])
    return adapted


if __name__ == "__main__":
    sys.stdout.write(json.dumps(values_schema(), indent=1, ensure_ascii=False) + "\n")
