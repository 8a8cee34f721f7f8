"""Writes the chart's Grafana dashboards: ``python -m helm.dashboards FOLDER``.

A dashboard is rows of panels; a panel is a title, a unit and queries. All the rest of Grafana's JSON is the same for all.
``$of`` stands for the labels that choose the release; the chart's monitors set them.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_OF = 'namespace=~"$namespace",release=~"$release"'
_SOURCE = {"type": "prometheus", "uid": "${datasource}"}
_ROW_WIDTH, _PANEL_HEIGHT = 24, 8


@dataclass(frozen=True, slots=True)
class Query:
    """One line, or one for each value of the labels in ``legend``."""

    expression: str
    legend: str


@dataclass(frozen=True, slots=True)
class Panel:
    """A graph over time; ``unit`` is one of Grafana's."""

    title: str
    unit: str
    queries: tuple[Query, ...]


@dataclass(frozen=True, slots=True)
class Dashboard:
    """Rows of panels, which share the width."""

    name: str
    title: str
    rows: tuple[tuple[Panel, ...], ...]


def _graph(title: str, unit: str, *queries: tuple[str, str]) -> Panel:
    return Panel(title, unit, tuple(Query(*query) for query in queries))


_MEAN_SESSIONS = "avg_over_time(sum(pipespec_gateway_sessions{$of})[$__rate_interval:])"
_COMMITTED = "sum(rate(pipespec_gateway_committed_tokens_total{$of}[$__rate_interval]))"
_TIME_TO_FIRST = "sum by (le) (rate(pipespec_gateway_first_token_seconds_bucket{$of}[$__rate_interval]))"

OVERVIEW = Dashboard(
    "overview",
    "PipeSpec / Overview",
    (
        (
            _graph(
                "Tokens to clients",
                "short",
                (
                    "sum by (protocol) (rate(pipespec_gateway_tokens_total{$of}[$__rate_interval]))",
                    "{{protocol}}",
                ),
            ),
            _graph(
                "Requests by outcome",
                "reqps",
                (
                    "sum by (outcome) (rate(pipespec_gateway_requests_total{$of}[$__rate_interval]))",
                    "{{outcome}}",
                ),
            ),
            _graph(
                "Time to first token",
                "s",
                (f"histogram_quantile(0.5, {_TIME_TO_FIRST})", "half of them"),
                (f"histogram_quantile(0.9, {_TIME_TO_FIRST})", "nine of ten"),
                (f"histogram_quantile(0.99, {_TIME_TO_FIRST})", "99 of 100"),
            ),
        ),
        (
            _graph("Sessions open", "short", ("sum by (pod) (pipespec_gateway_sessions{$of})", "{{pod}}")),
            _graph(
                "Sessions refused",
                "reqps",
                ("sum(rate(pipespec_gateway_refused_sessions_total{$of}[$__rate_interval]))", "no room"),
            ),
            _graph(
                "Replicas that take sessions",
                "short",
                ("max by (stage) (pipespec_gateway_usable_replicas{$of})", "stage {{stage}}"),
            ),
        ),
        (
            _graph(
                "Milliseconds per token of a session",
                "ms",
                (
                    f"1000 * {_MEAN_SESSIONS} / {_COMMITTED}",
                    "mean",
                ),
            ),
            _graph(
                "What the gateways did",
                "ops",
                (
                    "sum by (event) (rate(pipespec_gateway_events_total{$of}[$__rate_interval]))",
                    "{{event}}",
                ),
            ),
        ),
    ),
)


def _per_component(metric: str) -> str:
    return f"sum by (component) (rate({metric}{{$of}}[$__rate_interval]))"


STAGES = Dashboard(
    "stages",
    "PipeSpec / Stages",
    (
        (
            _graph(
                "Candidates that were right",
                "percentunit",
                (
                    f"{_per_component('pipespec_stage_accepted_total')} / {_per_component('pipespec_stage_checked_total')}",
                    "{{component}}",
                ),
            ),
            _graph(
                "Tokens per step",
                "short",
                (
                    f"{_per_component('pipespec_stage_tokens_total')} / {_per_component('pipespec_stage_steps_total')}",
                    "{{component}}",
                ),
            ),
            _graph(
                "Time of a step",
                "s",
                (
                    f"{_per_component('pipespec_stage_busy_seconds_total')} / {_per_component('pipespec_stage_steps_total')}",
                    "{{component}}",
                ),
            ),
        ),
        (
            _graph(
                "Busy",
                "percentunit",
                (
                    "avg by (component) (rate(pipespec_stage_busy_seconds_total{$of}[$__rate_interval]))",
                    "{{component}}",
                ),
            ),
            _graph("Sessions", "short", ("sum by (pod) (pipespec_stage_sessions{$of})", "{{pod}}")),
            _graph(
                "Own tokens undone",
                "short",
                (_per_component("pipespec_stage_rolled_back_total"), "{{component}}"),
            ),
        ),
        (
            _graph(
                "Cache of keys and values",
                "short",
                (
                    "sum by (component, state) (pipespec_stage_cache_tokens{$of})",
                    "{{component}} {{state}}",
                ),
            ),
            _graph(
                "Prompt tokens that were cached already",
                "short",
                (_per_component("pipespec_stage_prefix_tokens_total"), "{{component}}"),
            ),
            _graph(
                "Sessions whose cache was taken",
                "ops",
                (_per_component("pipespec_stage_preemptions_total"), "{{component}}"),
            ),
        ),
    ),
)

BUS = Dashboard(
    "bus",
    "PipeSpec / Bus",
    (
        (
            _graph(
                "Round trip", "s", ("max by (component) (pipespec_bus_echo_seconds{$of})", "{{component}}")
            ),
            _graph("Joined", "short", ("min by (pod) (pipespec_bus_joined{$of})", "{{pod}}")),
            _graph(
                "Messages dropped",
                "ops",
                (
                    "sum by (pod) (rate(pipespec_bus_overflowed_messages_total{$of}[$__rate_interval]))",
                    "{{pod}}: too slow",
                ),
                (
                    "sum by (pod) (rate(pipespec_bus_malformed_messages_total{$of}[$__rate_interval]))",
                    "{{pod}}: another version",
                ),
            ),
            _graph(
                "Handshakes refused",
                "ops",
                (
                    "sum by (reason) (rate(pipespec_broker_refused_handshakes_total{$of}[$__rate_interval]))",
                    "brokers: {{reason}}",
                ),
                (
                    "sum by (reason) (rate(pipespec_gateway_zmq_refused_handshakes_total{$of}[$__rate_interval]))",
                    "ZeroMQ clients: {{reason}}",
                ),
            ),
        ),
        (
            _graph(
                "Messages through the brokers",
                "ops",
                (
                    "sum by (pod) (rate(pipespec_broker_received_messages_total{$of}[$__rate_interval]))",
                    "{{pod}} in",
                ),
                (
                    "sum by (pod) (rate(pipespec_broker_sent_messages_total{$of}[$__rate_interval]))",
                    "{{pod}} out",
                ),
            ),
            _graph(
                "Bytes through the brokers",
                "Bps",
                (
                    "sum by (pod) (rate(pipespec_broker_received_bytes_total{$of}[$__rate_interval]))",
                    "{{pod}} in",
                ),
                (
                    "sum by (pod) (rate(pipespec_broker_sent_bytes_total{$of}[$__rate_interval]))",
                    "{{pod}} out",
                ),
            ),
            _graph(
                "Messages sent, by kind",
                "ops",
                ("sum by (kind) (rate(pipespec_bus_sent_messages_total{$of}[$__rate_interval]))", "{{kind}}"),
            ),
        ),
    ),
)

AUTOSCALER = Dashboard(
    "autoscaler",
    "PipeSpec / Autoscaler",
    (
        (
            _graph(
                "Milliseconds per token",
                "ms",
                ("max(pipespec_autoscaler_ms_per_token{$of})", "measured"),
                ("max(pipespec_autoscaler_predicted_ms_per_token{$of})", "predicted"),
            ),
            _graph(
                "Sessions",
                "short",
                ("max(pipespec_autoscaler_sessions{$of})", "open"),
                ("max(pipespec_autoscaler_planned_sessions{$of})", "room planned for"),
            ),
            _graph("GPUs", "short", ("max(pipespec_autoscaler_wanted_gpus{$of})", "decided")),
        ),
        (
            _graph(
                "Replicas by stage",
                "short",
                ("max by (stage) (pipespec_autoscaler_wanted_replicas{$of})", "stage {{stage}} decided"),
                ("max by (stage) (pipespec_autoscaler_ready_replicas{$of})", "stage {{stage}} ready"),
            ),
            _graph(
                "Decisions",
                "short",
                ("sum by (outcome) (increase(pipespec_autoscaler_decisions_total{$of}[5m]))", "{{outcome}}"),
            ),
            _graph(
                "State",
                "short",
                ("sum(pipespec_autoscaler_leader{$of})", "leaders"),
                ("min(pipespec_autoscaler_telemetry_complete{$of})", "telemetry complete"),
                ("max(pipespec_autoscaler_goal_met{$of})", "goal can be kept"),
            ),
        ),
    ),
)

DASHBOARDS = (OVERVIEW, STAGES, BUS, AUTOSCALER)


def document(dashboard: Dashboard) -> dict[str, Any]:
    """The dashboard as Grafana reads it."""
    return {
        "uid": f"pipespec-{dashboard.name}",
        "title": dashboard.title,
        "tags": ["pipespec"],
        "schemaVersion": 39,
        "editable": True,
        "refresh": "30s",
        "time": {"from": "now-1h", "to": "now"},
        "templating": {"list": [_data_source(), _label("namespace"), _label("release")]},
        "panels": _panels(dashboard.rows),
    }


def _data_source() -> dict[str, Any]:
    return {"name": "datasource", "type": "datasource", "query": "prometheus"}


def _label(name: str) -> dict[str, Any]:
    query = f"label_values(pipespec_bus_joined, {name})"
    return {
        "name": name,
        "type": "query",
        "datasource": _SOURCE,
        "query": query,
        "definition": query,
        "refresh": 2,
        "includeAll": True,
        "multi": True,
    }


def _panels(rows: Sequence[Sequence[Panel]]) -> list[dict[str, Any]]:
    panels: list[dict[str, Any]] = []
    for y, row in enumerate(rows):
        width = _ROW_WIDTH // len(row)
        for x, panel in enumerate(row):
            place = {"x": x * width, "y": y * _PANEL_HEIGHT, "w": width, "h": _PANEL_HEIGHT}
            panels.append({"id": len(panels) + 1, "gridPos": place, **_time_series(panel)})
    return panels


def _time_series(panel: Panel) -> dict[str, Any]:
    return {
        "title": panel.title,
        "type": "timeseries",
        "datasource": _SOURCE,
        "fieldConfig": {"defaults": {"unit": panel.unit, "min": 0}, "overrides": []},
        "options": {"legend": {"displayMode": "list", "placement": "bottom"}, "tooltip": {"mode": "multi"}},
        "targets": [
            {
                "refId": chr(ord("A") + n),
                "datasource": _SOURCE,
                "expr": query.expression.replace("$of", _OF),
                "legendFormat": query.legend,
            }
            for n, query in enumerate(panel.queries)
        ],
    }


def rendered() -> dict[str, str]:
    """Text of each dashboard's file, by name."""
    return {f"{one.name}.json": json.dumps(document(one), indent=1) + "\n" for one in DASHBOARDS}


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    for name, text in rendered().items():
        (folder / name).write_text(text, encoding="utf-8")
