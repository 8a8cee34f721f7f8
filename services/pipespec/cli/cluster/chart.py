"""The chart, and Helm to render it with. What is deployed is what Helm makes of the values; nothing here knows templates."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

import pipespec
from pipespec.ops.errors import SettingsError

_PACKAGED = Path(pipespec.__file__).parent / "chart"
_IN_SOURCES = Path(pipespec.__file__).parents[2] / "helm" / "pipespec"
_TIMEOUT_S = 120


@dataclass(frozen=True, slots=True)
class Release:
    """What ``helm install`` would be told.

    Attributes:
        values: files, later ones win.
        sets: ``key=value`` as of Helm's ``--set``.
        name: of the release.
        namespace: it goes to.
        chart: folder or archive; the one that came with this package when None.
        helm: the program.
        api_versions: that the cluster has, beside Kubernetes' own.
    """

    values: tuple[Path, ...]
    sets: tuple[str, ...] = ()
    name: str = "pipespec"
    namespace: str = "default"
    chart: Path | None = None
    helm: str = "helm"
    api_versions: tuple[str, ...] = ()


def own_chart() -> Path:
    """The chart that came with this package, or the sources' one.

    Raises:
        SettingsError: neither is there.
    """
    for chart in (_PACKAGED, _IN_SOURCES):
        if (chart / "Chart.yaml").is_file():
            return chart
    raise SettingsError(
        "this installation has no chart; name one with --chart (helm/pipespec in the sources)"
    )


def render(release: Release) -> str:
    """The manifests, as ``helm template`` prints them.

    Raises:
        SettingsError: Helm is missing, a file is, or the chart refuses the values; with its words.
    """
    for file in release.values:
        if not file.is_file():
            raise SettingsError(f"there is no values file {file}")
    helm = shutil.which(release.helm)
    if helm is None:
        raise SettingsError(
            f"{release.helm!r} is not on this machine: install Helm 3 or 4 (https://helm.sh/docs/intro/install), "
            "or say where it is with --helm"
        )
    command = [
        helm,
        "template",
        release.name,
        str(release.chart or own_chart()),
        "--namespace",
        release.namespace,
    ]
    command += _options("--values", [str(file) for file in release.values])
    command += _options("--set", release.sets) + _options("--api-versions", release.api_versions)
    try:
        done = subprocess.run(  # noqa: S603 - the user's own Helm, no shell
            command, capture_output=True, text=True, check=False, timeout=_TIMEOUT_S
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise SettingsError(f"{helm} could not render the chart: {error}") from error
    if done.returncode != 0:
        raise SettingsError(f"the chart refuses these values:\n{done.stderr.strip()}")
    return done.stdout


def _options(option: str, values: Sequence[str]) -> list[str]:
    return [part for value in values for part in (option, value)]


def documents(manifests: str) -> list[dict[str, Any]]:
    """The Kubernetes objects among them.

    Raises:
        SettingsError: Helm printed what is not YAML.
    """
    try:
        return [one for one in yaml.safe_load_all(manifests) if isinstance(one, dict)]
    except yaml.YAMLError as error:
        raise SettingsError(f"what the chart rendered is not YAML: {error}") from error
