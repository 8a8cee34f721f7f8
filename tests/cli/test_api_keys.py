"""``pipespec api-keys``, and keys at ``generate``."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import yaml

from gateway.access.keys import ALICE, CA, key_ring, lay_certificate
from gateway.scripted_backend import ScriptedBackend
from pipespec.cli.main import ASKED_WRONGLY, FAILED, run
from pipespec.gateway.access import Certificate, KeyRing, load_key_file
from pipespec.gateway.grpc import serve_grpc
from pipespec.gateway.resume import ResumeService
from pipespec.gateway.text import TextModel
from pipespec.ops.pipeline import GatewaySettings


def new(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """The key."""
    assert run(["api-keys", "new", *arguments]) == 0
    key = capsys.readouterr().out.strip()
    assert key.startswith("ps-")
    assert len(key) > 40
    return key


def owner(file: Path, key: str) -> str:
    return KeyRing(load_key_file(file)).authenticate(f"Bearer {key}", protocol="test").name


def test_a_new_key_counts_and_only_its_digest_is_kept(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "keys.yaml"
    key = new(capsys, str(file), "alice")
    assert owner(file, key) == "alice"
    assert key not in file.read_text()
    assert file.stat().st_mode & 0o077 == 0, "for its owner alone"


def test_a_second_key_of_a_name_counts_beside_the_first_and_changes_no_rights(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "keys.yaml"
    first = new(capsys, str(file), "alice", "--model", "a", "--model", "b", "--max-requests", "3")
    others = new(capsys, str(file), "bob")
    second = new(capsys, str(file), "alice")
    assert [owner(file, key) for key in (first, others, second)] == ["alice", "bob", "alice"]
    alice, bob = load_key_file(file).principals
    assert (alice.models, alice.max_requests) == (("a", "b"), 3)
    assert (bob.models, bob.max_requests) == (None, None)


def test_what_was_written_by_hand_stays(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "keys.yaml"
    keys = [{"plain": ALICE, "expires": "2120-01-01T00:00:00Z"}]
    file.touch(0o600)
    file.write_text(yaml.safe_dump({"principals": [{"name": "alice", "keys": keys}]}))
    before = load_key_file(file).principals[0].keys[0]
    new(capsys, str(file), "alice", "--days", "30")
    first, second = load_key_file(file).principals[0].keys
    assert first == before
    assert second.expires is not None


def test_the_list_names_keys_by_their_digests(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "keys.yaml"
    keys = [{"plain": ALICE}, {"sha256": "ab" * 32, "expires": "2001-01-01T00:00:00Z"}]
    file.touch(0o600)
    file.write_text(yaml.safe_dump({"principals": [{"name": "alice", "max_requests": 7, "keys": keys}]}))
    assert run(["api-keys", "list", str(file)]) == 0
    shown = capsys.readouterr().out
    for said in ("alice", "all", "7", "abababab (expired 2001-01-01)"):
        assert said in shown
    assert ALICE not in shown


@pytest.mark.parametrize("name", ["a b", "", "x" * 65, "ключ"])
def test_a_name_that_is_none_changes_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    file = tmp_path / "keys.yaml"
    assert run(["api-keys", "new", str(file), name]) == ASKED_WRONGLY
    assert not file.exists()
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
async def guarded(
    backend: ScriptedBackend,
    text: TextModel,
    settings: GatewaySettings,
    resume: ResumeService,
    tmp_path: Path,
) -> AsyncIterator[str]:
    """A gateway with keys and TLS."""
    server = await serve_grpc(
        backend=backend,
        text=text,
        settings=settings,
        model_name="small",
        host="127.0.0.1",
        port=0,
        keys=key_ring(),
        certificate=Certificate(*lay_certificate("first", tmp_path)),
        resume=resume,
    )
    yield f"grpcs://127.0.0.1:{server.port}"
    await server.stop(grace_s=0)


async def generate(*arguments: str) -> int:
    return await asyncio.to_thread(run, ["generate", "hello", *arguments])


async def test_generate_takes_its_key_from_the_option_or_the_variable(
    guarded: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    where = ("--url", guarded, "--ca", str(CA), "--no-resume")
    assert await generate(*where) == FAILED
    assert "an API key is needed" in capsys.readouterr().err
    assert await generate(*where, "--api-key", ALICE) == 0
    monkeypatch.setenv("PIPESPEC_API_KEY", ALICE)
    assert await generate(*where) == 0


def test_the_variable_disturbs_no_gateway_that_knows_no_such_keys(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PIPESPEC_API_KEY", ALICE)
    assert run(["generate", "hello", "--url", "zmq://127.0.0.1:1"]) == FAILED
    assert "no gateway answers" in capsys.readouterr().err
