"""A settings error names the key, its value and what is allowed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from pipespec.ops.errors import SettingsError
from pipespec.ops.pipeline import load_pipeline, parse_pipeline

TARGET = {"model": "owner/model"}
EMULATION = {"latency_ms": {1: 20.0}}
EMULATED = {"kind": "emulated", "emulation": EMULATION}
DRAFT = {"kind": "emulated", "emulation": {**EMULATION, "agreement": 0.5}}


def emulated(**changes: Any) -> dict[str, Any]:
    """An emulated target with some settings changed."""
    return {"stages": [{"kind": "emulated", "emulation": {**EMULATION, **changes}}]}


@pytest.mark.parametrize(
    ("document", "said"),
    [
        ({"stages": [TARGET], "stagez": 1}, ["stagez: unknown key", "allowed here:", "stage_host", "timers"]),
        (
            {"stages": [{**TARGET, "lookahed": 4}]},
            ["stages.0.lookahed: unknown key", "lookahead", "min_match"],
        ),
        ({"stages": [{**TARGET, "lookahead": 0}]}, ["stages.0.lookahead = 0", "greater than or equal to 1"]),
        ({"stages": [{**TARGET, "dtype": "int3"}]}, ["stages.0.dtype = 'int3'", "bfloat16"]),
        ({"stages": [{**TARGET, "kind": "magic"}]}, ["stages.0.kind = 'magic'", "'suffix'"]),
        ({"stages": [TARGET], "gateway": {"http_port": 70000}}, ["gateway.http_port = 70000", "65535"]),
        ({"stages": [TARGET], "name": "Not A Label"}, ["name = 'Not A Label'"]),
        ({}, ["stages: is required"]),
        ({"stages": [{"kind": "suffix"}]}, ["the last stage is the target"]),
        ({"stages": [{"kind": "suffix", "tensor_parallel": 2}, TARGET]}, ["has no model to split"]),
        (
            {"stages": [{**TARGET, "tensor_parallel": 2, "device": "cuda:1"}]},
            ["'cuda:1'", "CUDA_VISIBLE_DEVICES"],
        ),
        ({"stages": [TARGET, {"kind": "suffix"}, TARGET]}, ["stages[1]", "can only be first"]),
        ({"stages": [{"kind": "transformers"}]}, ["stages.0", "needs 'model'"]),
        (
            {"stages": [TARGET], "timers": {"dead_ms": 150}},
            ["timers", "'dead_ms' is 150", "heartbeats of 100 ms"],
        ),
        (["stages"], ["expected a mapping", "list"]),
        ({"stages": [{"kind": "emulated"}]}, ["stages.0", "needs 'emulation' with 'latency_ms'"]),
        ({"stages": [{**EMULATED, "model": "a/b"}]}, ["'emulated' has no model"]),
        ({"stages": [{**EMULATED, "tensor_parallel": 2}]}, ["'emulated' has no model to split"]),
        ({"stages": [{**TARGET, "emulation": EMULATION}]}, ["'transformers' is not emulated"]),
        (emulated(latency_ms={}), ["latency_ms = {}", "at least 1 item"]),
        (emulated(latency_ms={0: 5}), ["latency_ms.0", "greater than or equal to 1"]),
        (emulated(latency_ms={1: -5}), ["latency_ms.1 = -5", "greater than or equal to 0"]),
        (emulated(latency_ms={1: float("inf")}), ["latency_ms.1 = inf", "finite"]),
        (
            emulated(latency=5),
            ["emulation.latency: unknown key", "agreement, agreement_beyond, context_len", "session_ms"],
        ),
        (emulated(jitter=2), ["emulation.jitter = 2", "less than or equal to 1"]),
        (emulated(agreement=0.5), ["stages[0].emulation.agreement is 0.5", "no next stage"]),
        ({"stages": [EMULATED, EMULATED]}, ["stages[0].emulation.agreement is required"]),
        (
            {"stages": [{"kind": "emulated", "emulation": {**DRAFT["emulation"], "seed": 3}}, EMULATED]},
            ["stages[0].emulation.seed is 3", "the target's decides"],
        ),
        ({"stages": [{**TARGET, "device": "xpu"}]}, ["stages.0.device = 'xpu'", "cuda"]),
        ({"stages": [{**TARGET, "cache_gib": float("inf")}]}, ["stages.0.cache_gib = inf", "finite"]),
        ({"stages": [{**TARGET, "wait_for": 2}]}, ["stages[0].wait_for", "no stage is before the first"]),
        (
            {"stages": [DRAFT, {**EMULATED, "wait_for": 9}]},
            ["stages[1].wait_for is 9", "stages[0] is at most 8"],
        ),
        (
            {
                "stages": [
                    {"kind": "emulated", "emulation": {**DRAFT["emulation"], "agreement_beyond": {1: 0.5}}},
                    EMULATED,
                ]
            },
            ["stages[0].emulation.agreement_beyond[1]", "1 follow this one"],
        ),
        ({"stages": [DRAFT, TARGET]}, ["'emulated', 'transformers'", "make all stages 'emulated' or none"]),
        ({"stages": [{"kind": "suffix"}, EMULATED]}, ["'suffix', 'emulated'", "or none"]),
    ],
)
def test_a_bad_setting_is_named_with_its_value_and_what_is_allowed(document: Any, said: list[str]) -> None:
    with pytest.raises(SettingsError) as raised:
        parse_pipeline(document, source="chain.yaml")
    message = str(raised.value)
    assert "chain.yaml" in message
    for part in said:
        assert part in message


def test_all_problems_are_said_at_once() -> None:
    with pytest.raises(SettingsError, match=r"(?s)lookahead = -1.*http_port = 'x'"):
        parse_pipeline(
            {"stages": [{**TARGET, "lookahead": -1}], "gateway": {"http_port": "x"}}, source="chain.yaml"
        )


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"cannot read .*nowhere\.yaml"):
        load_pipeline(tmp_path / "nowhere.yaml")


def test_a_file_that_is_not_yaml_is_named(tmp_path: Path) -> None:
    (tmp_path / "bad.yaml").write_text("stages: [", encoding="utf-8")
    with pytest.raises(SettingsError, match=r"bad\.yaml is not valid YAML"):
        load_pipeline(tmp_path / "bad.yaml")


def test_a_key_given_twice_is_named_with_its_line(tmp_path: Path) -> None:
    (tmp_path / "twice.yaml").write_text("name: a\nstages: []\nname: b\n", encoding="utf-8")
    with pytest.raises(SettingsError, match=r"(?s)the key 'name' is given twice.*line 3"):
        load_pipeline(tmp_path / "twice.yaml")


def test_one_bad_stage_is_one_problem_and_a_long_value_is_cut() -> None:
    with pytest.raises(SettingsError) as raised:
        parse_pipeline({"stages": [{**TARGET, "device": ["x" * 9999]}]}, source="chain.yaml")
    assert len(str(raised.value).splitlines()) == 2
    assert len(str(raised.value)) < 300


def test_settings_cannot_be_changed_after_the_start() -> None:
    pipeline = parse_pipeline({"stages": [TARGET]}, source="chain.yaml")
    with pytest.raises(ValueError, match="frozen"):
        pipeline.name = "other"  # type: ignore[misc]  # this is the point


def test_an_emulated_chain_survives_being_written_and_read_again(tmp_path: Path) -> None:
    """Services read what ``pipespec up`` has written; JSON makes the points' token counts strings."""
    pipeline = parse_pipeline({"stages": [DRAFT, EMULATED]}, source="chain.yaml")
    (tmp_path / "written.yaml").write_text(yaml.safe_dump(pipeline.model_dump(mode="json")))
    assert load_pipeline(tmp_path / "written.yaml") == pipeline
