"""Writes the plain manifests in ``k8s/``: a kustomize base and overlays, made of renderings of the chart's examples.

``python -m helm.manifests``. What all overlays have alike is in the base; what differs, and the pipeline file, is in the
overlays. Labels and annotations that are Helm's own are left out: kustomize replaces pods when the file changes, because its
ConfigMap is then called something else.
"""

from __future__ import annotations

import shutil
import subprocess
from collections import defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import yaml
from helm.tools import helm

from pipespec.ops.errors import SettingsError

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "k8s"
OVERLAYS = ("emulated", "cpu", "single-gpu")
NAME = NAMESPACE = "pipespec"
_PIPELINE = "pipeline.yaml"
_OF_HELM = ("helm.sh/chart", "app.kubernetes.io/managed-by")
_GENERATED = "# Made by `make k8s` of the chart in helm/pipespec; change that.\n"

Manifest = dict[str, Any]


def files() -> dict[str, str]:
    """Text of every generated file, by its path in ``k8s/``."""
    rendered = {overlay: _rendered(overlay) for overlay in OVERLAYS}
    pipelines = {overlay: _take_pipeline(objects) for overlay, objects in rendered.items()}
    common = [one for one in rendered[OVERLAYS[0]] if all(one in objects for objects in rendered.values())]
    written = dict(_folder("base", [_namespace(), *common], {}))
    for overlay, objects in rendered.items():
        own = [one for one in objects if one not in common]
        settings = {
            "namespace": NAMESPACE,
            "configMapGenerator": [{"name": NAME, "files": [_PIPELINE]}],
        }
        written |= _folder(f"overlays/{overlay}", own, settings, extra=["../../base"])
        written[f"overlays/{overlay}/{_PIPELINE}"] = _GENERATED + pipelines[overlay]
    return written


def _rendered(example: str) -> list[Manifest]:
    chart = ROOT / "helm" / "pipespec"
    command = [str(helm(4)), "template", NAME, str(chart), "--namespace", NAMESPACE]
    command += ["--values", str(chart / "examples" / f"{example}.yaml"), "--set", "tests.enabled=false"]
    done = subprocess.run(  # noqa: S603 - our own Helm, no shell
        command, capture_output=True, text=True, check=False, timeout=60
    )
    if done.returncode != 0:
        raise SettingsError(f"the chart refuses its own example {example}:\n{done.stderr}")
    return [_plain(one) for one in yaml.safe_load_all(done.stdout) if one]


def _plain(manifest: Manifest) -> Manifest:
    """The object without what is Helm's; kustomize sets the namespace."""
    metadata = manifest["metadata"]
    metadata.pop("namespace", None)
    for label in _OF_HELM:
        metadata["labels"].pop(label, None)
    annotations = {
        key: value for key, value in metadata.pop("annotations", {}).items() if "helm.sh" not in key
    }
    if annotations:
        metadata["annotations"] = annotations
    pod = manifest.get("spec", {}).get("template", {}).get("metadata", {})
    kept = {
        key: value for key, value in pod.pop("annotations", {}).items() if not key.startswith("checksum/")
    }
    if kept:
        pod["annotations"] = kept
    return manifest


def _take_pipeline(objects: list[Manifest]) -> str:
    """The pipeline file, whose ConfigMap kustomize makes."""
    (holder,) = (one for one in objects if one["kind"] == "ConfigMap" and one["metadata"]["name"] == NAME)
    objects.remove(holder)
    return str(holder["data"][_PIPELINE])


def _namespace() -> Manifest:
    labels = {f"pod-security.kubernetes.io/{mode}": "restricted" for mode in ("enforce", "warn")}
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE, "labels": labels}}


def _folder(
    path: str, objects: Iterable[Manifest], settings: Manifest, *, extra: Iterable[str] = ()
) -> Iterator[tuple[str, str]]:
    """A kustomization and its resources, one file for each component."""
    components: dict[str, list[Manifest]] = defaultdict(list)
    for one in objects:
        labels = one["metadata"].get("labels", {})
        components[labels.get("app.kubernetes.io/component", "release")].append(one)
    names = [f"{component}.yaml" for component in sorted(components)]
    kustomization = {
        "apiVersion": "kustomize.config.k8s.io/v1beta1",
        "kind": "Kustomization",
        **settings,
        "resources": [*extra, *names],
    }
    yield f"{path}/kustomization.yaml", _GENERATED + _text([kustomization])
    for component, members in components.items():
        yield f"{path}/{component}.yaml", _GENERATED + _text(members)


def _text(manifests: Iterable[Manifest]) -> str:
    return "---\n".join(yaml.safe_dump(one, sort_keys=False, width=200) for one in manifests)


def write() -> None:
    """Replace what is in ``k8s/`` but its README."""
    for folder in ("base", "overlays"):
        shutil.rmtree(FOLDER / folder, ignore_errors=True)
    for name, text in files().items():
        path = FOLDER / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    write()
