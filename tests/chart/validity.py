"""Whether an API server would take a manifest: Kubernetes' own schemas, those of custom resources, and what both miss."""

from __future__ import annotations

import functools
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
from kubernetes_validate import utils

from chart.release import Manifest

VERSIONS = tuple(f"1.{minor}" for minor in range(29, 38))
_SCHEMAS = Path(__file__).parent / "schemas"
_GROUPS = ("monitoring.coreos.com/", "keda.sh/", "gateway.networking.k8s.io/")

utils.schema_contents = functools.cache(utils.schema_contents)  # it reads megabytes for each object otherwise


def problems(manifest: Manifest, version: str) -> list[str]:
    """Why a cluster of this version would refuse it; empty where it would not. A kind without a schema is a problem."""
    if manifest["apiVersion"].startswith(_GROUPS):
        return [*_of_custom(manifest), *_of_values(manifest)]
    try:
        kubernetes_validate.validate(manifest, version, strict=True)
    except kubernetes_validate.SchemaNotFoundError as error:
        return [error.message]
    except kubernetes_validate.ValidationError as error:
        return [f"{'.'.join(map(str, error.path))}: {error.message}"]
    return list(_of_values(manifest))


def _of_custom(manifest: Manifest) -> list[str]:
    validator = _validator(manifest["kind"])
    return [f"{error.json_path}: {error.message}" for error in validator.iter_errors(manifest)]


@functools.cache
def _validator(kind: str) -> jsonschema.Draft7Validator:
    path = _SCHEMAS / f"{kind}.json"
    assert path.is_file(), f"no schema of {kind}: add one to {_SCHEMAS}"
    return jsonschema.Draft7Validator(_closed(json.loads(path.read_text(encoding="utf-8"))))


def _closed(node: Any) -> Any:
    """The schema, with unknown keys refused where keys are listed."""
    if isinstance(node, list):
        return [_closed(item) for item in node]
    if not isinstance(node, dict):
        return node
    closed = {key: _closed(value) for key, value in node.items()}
    if isinstance(node.get("properties"), dict):
        closed.setdefault("additionalProperties", False)
    return closed


def _of_values(manifest: Manifest) -> Iterator[str]:
    """What the schemas of Kubernetes do not say."""
    for path, key, value in _walk(manifest):
        is_port = key in {"port", "containerPort", "targetPort", "nodePort"} and isinstance(value, int)
        if is_port and not 1 <= value <= 65535:
            yield f"{path}: {value} is no port"
    spec = manifest.get("spec", {})
    if manifest["kind"] == "PodDisruptionBudget" and ("minAvailable" in spec) == ("maxUnavailable" in spec):
        yield "a budget has one of minAvailable and maxUnavailable"
    if manifest["kind"] == "HorizontalPodAutoscaler":
        if not spec.get("metrics"):
            yield "an HPA without metrics looks at nothing"
        if not 1 <= spec["minReplicas"] <= spec["maxReplicas"]:
            yield "an HPA's range is empty or begins at 0"
    yield from _of_ports(manifest)


def _of_ports(manifest: Manifest) -> Iterator[str]:
    for owner, key in _lists_of_ports(manifest):
        names = [port.get("name") for port in owner]
        numbers = [port.get(key) for port in owner]
        if len(set(names)) < len(names) or len(set(numbers)) < len(numbers):
            yield f"two ports have the same name or number: {owner}"
        if any(len(name) > 15 for name in names if name):
            yield f"a port's name has more than 15 characters: {names}"


def _lists_of_ports(manifest: Manifest) -> Iterator[tuple[list[Any], str]]:
    if manifest["kind"] == "Service":
        yield manifest["spec"]["ports"], "port"
    for _, key, value in _walk(manifest):
        if key == "ports" and isinstance(value, list) and value and "containerPort" in value[0]:
            yield value, "containerPort"


def _walk(node: Any, path: str = "") -> Iterator[tuple[str, str, Any]]:
    items = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    for key, value in items:
        yield f"{path}.{key}", str(key), value
        yield from _walk(value, f"{path}.{key}")
