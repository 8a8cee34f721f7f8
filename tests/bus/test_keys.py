"""Folders of keys: what servers and clients read, what is refused, and how keys are replaced in them."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from pipespec.bus.key_folder import KeyFolder
from pipespec.bus.keys import KeyPair, Peer, read_allow_list, read_client_keys, read_secret, write_key
from pipespec.ops.errors import SettingsError


@pytest.fixture
def folder(tmp_path: Path) -> KeyFolder:
    made = KeyFolder(tmp_path / "keys")
    made.create("fleet", num_servers=2)
    return made


def test_a_client_finds_its_own_key_listed_and_the_servers_keys_right(folder: KeyFolder) -> None:
    keys = read_client_keys(folder.client("fleet"), num_servers=2)
    assert read_allow_list(folder.server) == {keys.own.public: Peer("fleet", 1)}
    assert list(keys.servers) == [
        read_secret(folder.server / f"server-{index}.key_secret").public for index in range(2)
    ]
    assert not list(folder.problems())


def test_secret_keys_are_written_for_the_owner_alone_and_never_shown(folder: KeyFolder) -> None:
    secrets = list(folder.path.rglob("*.key_secret"))
    assert len(secrets) == 3
    assert {file.stat().st_mode & 0o777 for file in secrets} == {0o600}
    pair = read_secret(secrets[0])
    assert pair.secret.decode() not in repr(pair)


@pytest.mark.parametrize("mode", [0o604, 0o660, 0o644, 0o606])
def test_a_secret_key_that_others_can_read_or_change_is_refused(folder: KeyFolder, mode: int) -> None:
    file = folder.server / "server-0.key_secret"
    file.chmod(mode)
    with pytest.raises(SettingsError, match=f"mode {mode:04o}.*chmod 600"):
        read_secret(file)


def test_a_group_may_read_only_what_somebody_else_owns_as_in_a_kubernetes_volume(
    folder: KeyFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = folder.server / "server-0.key_secret"
    file.chmod(0o440)
    owner = file.stat().st_uid
    monkeypatch.setattr(os, "geteuid", lambda: owner + 1)
    assert read_secret(file)
    if owner != 0:
        monkeypatch.setattr(os, "geteuid", lambda: owner)
        with pytest.raises(SettingsError, match="others can read it"):
            read_secret(file)


def test_a_new_generation_stands_beside_the_old_one_until_it_is_retired(folder: KeyFolder) -> None:
    old = read_client_keys(folder.client("fleet"), num_servers=2).own.public
    assert folder.add("fleet") == Peer("fleet", 2)
    new = read_client_keys(folder.client("fleet"), num_servers=2).own.public
    assert folder.allowed() == {old: Peer("fleet", 1), new: Peer("fleet", 2)}
    assert folder.retire("fleet") == [Peer("fleet", 1)]
    assert folder.allowed() == {new: Peer("fleet", 2)}
    with pytest.raises(SettingsError, match="one key only"):
        folder.retire("fleet")
    assert folder.retire("fleet", everything=True) == [Peer("fleet", 2)]


def test_a_servers_new_key_reaches_all_clients(folder: KeyFolder) -> None:
    folder.add("other")
    before = read_client_keys(folder.client("other"), num_servers=2).servers
    folder.replace_server(1)
    after = read_client_keys(folder.client("other"), num_servers=2).servers
    assert (before[0] == after[0], before[1] == after[1]) == (True, False)
    assert not list(folder.problems())
    with pytest.raises(SettingsError, match="no key of server 3"):
        folder.replace_server(3)


def test_nothing_is_overwritten(folder: KeyFolder) -> None:
    with pytest.raises(SettingsError, match="not empty"):
        folder.create("fleet", num_servers=1)


@pytest.mark.parametrize("name", ["", "-x", "x-", "a/b", "a.b", "server", "Alice", "x" * 64])
def test_a_name_that_cannot_be_a_file_and_a_secret_is_refused(folder: KeyFolder, name: str) -> None:
    with pytest.raises(SettingsError, match="cannot name a key"):
        folder.add(name)


def _unlist(folder: KeyFolder) -> None:
    folder.retire("fleet", everything=True)


def _swap_server(folder: KeyFolder) -> None:
    write_key(folder.client("fleet") / "server-0.key", KeyPair.new(), secret=False)


def _mix_halves(folder: KeyFolder) -> None:
    mixed = KeyPair(KeyPair.new().public, KeyPair.new().secret)
    write_key(folder.client("fleet") / "client.key_secret", mixed, secret=True)


def _list_twice(folder: KeyFolder) -> None:
    (folder.server / "copy.1.key").write_bytes((folder.server / "fleet.1.key").read_bytes())


def _misname(folder: KeyFolder) -> None:
    (folder.server / "fleet.1.key").rename(folder.server / "fleet.key")


def _garble(folder: KeyFolder) -> None:
    (folder.server / "fleet.1.key").write_text('curve\n    public-key = "short"\n')


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (_unlist, "lists nobody"),
        (_swap_server, "not the key of server 0"),
        (_mix_halves, "does not belong to the secret key"),
        (_list_twice, "holds the same key as"),
        (_misname, "expected a name such as fleet.1.key"),
        (_garble, "40 characters of Z85"),
    ],
)
def test_what_would_not_work_is_found(
    folder: KeyFolder, spoil: Callable[[KeyFolder], None], said: str
) -> None:
    spoil(folder)
    assert any(said in problem for problem in folder.problems())
