"""What a key file may say, and that no error gives away what it holds."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from pipespec.gateway.access.key_file import MAX_FILE, digest_of, load_key_file, parse_key_file
from pipespec.ops.errors import SettingsError

KEY = "ps-a-secret-that-nobody-sees"
DIGEST = digest_of(KEY).hex()


def principal(**changes: Any) -> dict[str, Any]:
    return {"name": "alice", "keys": [{"sha256": DIGEST}], **changes}


def test_yaml_and_json_say_the_same(tmp_path: Path) -> None:
    document = {"principals": [principal(models=["small"], max_requests=3)]}
    files = [tmp_path / "keys.yaml", tmp_path / "keys.json"]
    files[0].write_text(yaml.safe_dump(document))
    files[1].write_text(json.dumps(document))
    assert load_key_file(files[0]) == load_key_file(files[1])


def test_a_plain_key_and_its_digest_are_the_same_key() -> None:
    plain, hashed = (
        parse_key_file({"principals": [principal(keys=[key])]}, source="test")
        for key in ({"plain": KEY}, {"sha256": DIGEST})
    )
    assert plain.principals[0].keys[0].digest == hashed.principals[0].keys[0].digest


@pytest.mark.parametrize(
    ("document", "said"),
    [
        (None, "the whole"),
        ({"principals": []}, "principals: "),
        ({"principals": [principal(keys=[])]}, "principals.0.keys: "),
        ({"principals": [principal(keys=[{}])]}, "give either 'sha256' or 'plain'"),
        ({"principals": [principal(keys=[{"plain": KEY, "sha256": DIGEST}])]}, "give either"),
        ({"principals": [principal(keys=[{"sha256": KEY}])]}, "principals.0.keys.0.sha256: "),
        ({"principals": [principal(keys=[{"plain": "short"}])]}, "principals.0.keys.0.plain: "),
        ({"principals": [principal(keys=[{"plain": KEY, "expires": "2027-01-01T00:00:00"}])]}, "timezone"),
        ({"principals": [principal(max_requests=0)]}, "principals.0.max_requests: "),
        ({"principals": [principal(models=[])]}, "principals.0.models: "),
        ({"principals": [principal(name="a b")]}, "principals.0.name: "),
        ({"principals": [principal(), principal(keys=[{"plain": KEY * 2}])]}, "a name is given twice"),
        ({"principals": [principal(), principal(name="bob", keys=[{"plain": KEY}])]}, "a key is given twice"),
        ({"principals": [principal()], KEY: 1}, "(unknown): "),
    ],
)
def test_what_cannot_be_used_is_said_without_saying_a_key(document: Any, said: str) -> None:
    with pytest.raises(SettingsError) as caught:
        parse_key_file(document, source="keys.yaml")
    assert said in str(caught.value)
    assert "keys.yaml" in str(caught.value)
    assert KEY not in str(caught.value)
    assert caught.value.__cause__ is None, "a traceback would show it"


@pytest.mark.parametrize(
    "text",
    [
        f"principals:\n  - name: [{KEY}\n",
        f"{KEY}: 1\n{KEY}: 2\n",
        f"!!python/object/apply:os.system ['{KEY}']",
        "[" * 100_000,
    ],
)
def test_what_is_no_yaml_is_said_without_a_line_of_it(tmp_path: Path, text: str) -> None:
    file = tmp_path / "keys.yaml"
    file.write_text(text)
    with pytest.raises(SettingsError, match="is not valid YAML") as caught:
        load_key_file(file)
    assert KEY not in str(caught.value)


def test_a_file_that_is_missing_too_large_or_binary_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "keys.yaml"
    with pytest.raises(SettingsError, match="cannot read the API keys"):
        load_key_file(file)
    file.write_bytes(b"#" * (MAX_FILE + 1))
    with pytest.raises(SettingsError, match="larger than"):
        load_key_file(file)
    file.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(SettingsError, match="is not valid YAML"):
        load_key_file(file)


def test_plain_keys_in_a_file_that_others_can_read_are_refused_and_digests_are_not(tmp_path: Path) -> None:
    file = tmp_path / "keys.yaml"
    file.write_text(yaml.safe_dump({"principals": [principal()]}))
    file.chmod(0o644)
    assert load_key_file(file)
    file.write_text(yaml.safe_dump({"principals": [principal(keys=[{"plain": KEY}])]}))
    with pytest.raises(SettingsError, match=r"mode 0644.*chmod 600"):
        load_key_file(file)
    file.chmod(0o600)
    assert load_key_file(file)
