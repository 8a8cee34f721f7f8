"""``pipespec keys``: what it prints, what it refuses, and that no secret is shown unasked."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from pipespec.bus.key_folder import KeyFolder
from pipespec.bus.keys import read_secret
from pipespec.cli.main import run


@pytest.fixture
def folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> KeyFolder:
    made = KeyFolder(tmp_path / "keys")
    assert run(["keys", "new", str(made.path), "--servers", "2"]) == 0
    capsys.readouterr()
    return made


def test_new_says_what_to_put_into_the_pipeline_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "keys"
    assert run(["keys", "new", str(path)]) == 0
    said = capsys.readouterr()
    assert said.out == ""
    assert f"server_keys: {path}/server, client_keys: {path}/clients/fleet" in said.err


def test_list_shows_names_generations_and_public_keys(
    folder: KeyFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["keys", "add", str(folder.path), "fleet"]) == 0
    assert "pipespec keys retire" in capsys.readouterr().err
    assert run(["keys", "list", str(folder.path), "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert [(row["name"], row["generation"]) for row in rows] == [("fleet", 1), ("fleet", 2)]
    assert {row["public"] for row in rows} == {key.decode() for key in folder.allowed()}


def test_retire_says_that_open_connections_stay(
    folder: KeyFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    folder.add("fleet")
    assert run(["keys", "retire", str(folder.path), "fleet"]) == 0
    said = capsys.readouterr().err
    assert "struck off: fleet.1" in said
    assert "restart the brokers" in said


def test_check_is_content_or_fails_with_every_problem(
    folder: KeyFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["keys", "check", str(folder.path)]) == 0
    (folder.server / "server-0.key_secret").chmod(0o644)
    assert run(["keys", "check", str(folder.path)]) == 1
    assert "chmod 600" in capsys.readouterr().out


def test_only_the_manifests_hold_secret_keys(folder: KeyFolder, capsys: pytest.CaptureFixture[str]) -> None:
    secrets = [read_secret(file).secret.decode() for file in folder.path.rglob("*.key_secret")]
    for command in (["list"], ["list", "--json"], ["check"]):
        assert run(["keys", *command[:1], str(folder.path), *command[1:]]) == 0
    said = capsys.readouterr()
    assert not any(secret in said.out + said.err for secret in secrets)
    assert run(["keys", "list", str(folder.path), "--kubernetes-secret", "bus"]) == 0
    said = capsys.readouterr()
    objects = {one["metadata"]["name"]: one["stringData"] for one in yaml.safe_load_all(said.out)}
    assert objects["bus-server"]["server-1.key_secret"] == (folder.server / "server-1.key_secret").read_text()
    assert (
        objects["bus-fleet"]["client.key_secret"]
        == (folder.client("fleet") / "client.key_secret").read_text()
    )
    assert said.err == ""


def test_add_takes_a_name_or_a_server(folder: KeyFolder, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["keys", "add", str(folder.path)]) == 2
    assert run(["keys", "add", str(folder.path), "x", "--server", "1"]) == 2
    assert run(["keys", "add", str(folder.path), "--server", "1"]) == 0
    assert "restart broker 1" in capsys.readouterr().err
    assert run(["keys", "add", str(folder.path), "--server", "3"]) == 2
    assert "no key of server 3" in capsys.readouterr().err


@pytest.mark.parametrize(
    "role", [["broker"], ["stage", "--rank", "0"], ["gateway"], ["autoscaler"]], ids=lambda role: role[0]
)
def test_no_service_starts_on_an_open_bus_outside_loopback(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], role: list[str]
) -> None:
    file = tmp_path / "pipeline.yaml"
    file.write_text("stages: [{model: owner/model}]\nbrokers: [{host: broker.example, bind: 10.0.0.7}]\n")
    assert run(["serve", *role, "--pipeline", str(file)]) == 2
    said = capsys.readouterr().err
    assert "pipespec keys new FOLDER" in said
    assert "bus.insecure" in said


def test_a_broker_whose_secret_key_others_can_read_does_not_start(
    tmp_path: Path, folder: KeyFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder.server / "server-0.key_secret").chmod(0o644)
    file = tmp_path / "pipeline.yaml"
    bus = {"server_keys": str(folder.server), "client_keys": str(folder.client("fleet"))}
    ports = {"publish_port": 1, "subscribe_port": 2}
    file.write_text(yaml.safe_dump({"stages": [{"model": "owner/model"}], "brokers": [ports], "bus": bus}))
    assert run(["serve", "broker", "--pipeline", str(file)]) == 2
    assert "chmod 600" in capsys.readouterr().err
