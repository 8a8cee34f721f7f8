"""Writes the chart's README: what the comments of ``values.yaml`` say, and the settings of the pipeline file.

``python -m helm.readme`` writes it; a value without a comment, or a comment without a value, stops it.
"""

from __future__ import annotations

import subprocess
import tempfile
from pathlib import Path
from typing import Any

import yaml
from helm.schema import camel
from helm.tools import readme_generator

from pipespec.ops.cluster import AutoscalerSettings
from pipespec.ops.emulation import EmulationSettings
from pipespec.ops.errors import SettingsError
from pipespec.ops.pipeline import GatewaySettings, StageSettings, TimerSettings
from pipespec.ops.settings import Settings

CHART = Path(__file__).parent / "pipespec"
README = CHART / "README.md"
_OF_GATEWAY = frozenset({"host", "metrics_port", "api_keys", "tls_certificate", "tls_key", "zmq_keys"})
_BEGIN, _END = "<!-- settings -->", "<!-- /settings -->"
_SECTIONS: tuple[tuple[str, str, type[Settings], frozenset[str]], ...] = (
    (
        "Stages: `stages.NAME` and `stageDefaults`",
        "stageDefaults",
        StageSettings,
        frozenset({"replicas", "scaling", "emulation"}),
    ),
    ("Emulated stages: `stages.NAME.emulation`", "", EmulationSettings, frozenset()),
    ("Gateways: `gateway`", "gateway", GatewaySettings, _OF_GATEWAY),
    (
        "The autoscaler: `autoscaler`",
        "autoscaler",
        AutoscalerSettings,
        frozenset({"host", "metrics_port", "profile"}),
    ),
    ("Protocol: `timers`", "timers", TimerSettings, frozenset()),
)
"""Title, where in the values, what of the pipeline file, keys that the chart sets itself."""


def readme() -> str:
    """The whole file, made anew.

    Raises:
        SettingsError: values and comments do not fit, or the generator cannot be run.
    """
    before, _, rest = _with_parameters().partition(_BEGIN)
    _, _, after = rest.partition(_END)
    return f"{before}{_BEGIN}\n\n{_settings()}{_END}{after}"


def _with_parameters() -> str:
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "README.md"
        copy.write_text(README.read_text(encoding="utf-8"), encoding="utf-8")
        values = str(CHART / "values.yaml")
        done = subprocess.run(  # noqa: S603 - a pinned program, no shell
            [str(readme_generator()), "--values", values, "--readme", str(copy)],
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )
        if done.returncode != 0:
            raise SettingsError(f"values.yaml and its comments do not fit:\n{done.stdout}{done.stderr}")
        return copy.read_text(encoding="utf-8")


def _settings() -> str:
    values = yaml.safe_load((CHART / "values.yaml").read_text(encoding="utf-8"))
    parts = []
    for title, section, model, without in _SECTIONS:
        told = set(values.get(section, {}))
        rows = [
            f"| `{camel(name)}` | {_cell(field.description)} | {_default(field)} |"
            for name, field in model.model_fields.items()
            if name not in without and camel(name) not in told
        ]
        parts.append(
            "\n".join([f"### {title}", "", "| Name | Description | Default |", "| --- | --- | --- |", *rows])
        )
    return "\n\n".join(parts) + "\n\n"


def _cell(text: str | None) -> str:
    return " ".join((text or "").replace("``", "`").replace("|", "\\|").split())


def _default(field: Any) -> str:
    if field.is_required():
        return "required"
    default = field.get_default(call_default_factory=True)
    return "" if default is None or default == {} else f"`{default}`"


if __name__ == "__main__":
    README.write_text(readme(), encoding="utf-8")
