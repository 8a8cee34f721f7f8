"""Who gets in: brokers and the ZeroMQ edge with keys, against peers without, with others, and with the wrong idea of the server."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from dataclasses import replace
from pathlib import Path

import pytest
import zmq
from structlog.testing import capture_logs

from bus.brokers import settings
from pipespec.broker.forwarder import Forwarder
from pipespec.bus import guard as guard_module
from pipespec.bus.address import bind_endpoints
from pipespec.bus.guard import BROKEN_OFF, NO_CURVE, UNLISTED, WRONG_SERVER_KEY, Guard, ServerKeys
from pipespec.bus.key_folder import KeyFolder
from pipespec.bus.keys import ClientKeys, KeyPair, read_client_keys
from pipespec.bus.link import BusLink
from pipespec.ops.pipeline import BrokerSettings
from pipespec.protocol.ids import Epoch, Rank, gateway_inbox, stage_inbox
from pipespec.protocol.messages import Close, EndReason
from protocol.examples import SESSION

STAGE, GATEWAY = stage_inbox(Rank(0), "r0"), gateway_inbox("g0")
NEWS = Close(SESSION, Epoch(1), EndReason.STOP)


@pytest.fixture
def folder(tmp_path: Path) -> KeyFolder:
    made = KeyFolder(tmp_path / "keys")
    made.create("fleet", num_servers=1)
    return made


def keys_of(folder: KeyFolder, name: str = "fleet") -> ClientKeys:
    return read_client_keys(folder.client(name), num_servers=1)


def forward(broker: BrokerSettings, folder: KeyFolder | None) -> Forwarder:
    publish_at, subscribe_at = bind_endpoints(broker)
    keys = None if folder is None else ServerKeys.read(folder.server)
    return Forwarder(publish_at=publish_at, subscribe_at=subscribe_at, keys=keys)


@pytest.fixture
def broker() -> BrokerSettings:
    return settings()


@pytest.fixture
def forwarder(broker: BrokerSettings, folder: KeyFolder) -> Iterator[Forwarder]:
    running = forward(broker, folder)
    yield running
    running.stop()


def guard_of(forwarder: Forwarder) -> Guard:
    assert forwarder.guard is not None
    return forwarder.guard


def eventually(condition: Callable[[], bool]) -> None:
    until_s = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < until_s
        time.sleep(0.02)


def linked(broker: BrokerSettings, keys: ClientKeys | None, stack: ExitStack) -> BusLink:
    link = BusLink([broker], keys=keys, inbox=GATEWAY)
    stack.enter_context(closing(link))
    link.start(timeout_s=0.0)
    return link


def unlisted(folder: KeyFolder) -> ClientKeys:
    return replace(keys_of(folder), own=KeyPair.new())


def wrong_server(folder: KeyFolder) -> ClientKeys:
    return replace(keys_of(folder), servers=(KeyPair.new().public,))


@pytest.mark.parametrize(
    ("intruder", "reasons"),
    [
        (lambda _: None, (NO_CURVE, BROKEN_OFF)),
        (unlisted, (UNLISTED,)),
        (wrong_server, (WRONG_SERVER_KEY,)),
    ],
    ids=["without CURVE", "unlisted key", "wrong server key"],
)
def test_an_intruder_is_refused_and_counted_and_hears_and_says_nothing(
    forwarder: Forwarder,
    broker: BrokerSettings,
    folder: KeyFolder,
    intruder: Callable[[KeyFolder], ClientKeys | None],
    reasons: tuple[str, ...],
) -> None:
    guard = guard_of(forwarder)
    with ExitStack() as stack:
        stage = stack.enter_context(closing(BusLink([broker], keys=keys_of(folder), inbox=STAGE)))
        assert stage.start(timeout_s=60)
        foe = linked(broker, intruder(folder), stack)
        eventually(lambda: sum(guard.refused[reason] for reason in reasons) >= 2)
        foe.publish([(STAGE, NEWS)])
        stage.publish([(GATEWAY, NEWS), (STAGE, NEWS)])
        (heard,) = stage.receive(60)
        assert (heard.message, heard.sender) == (NEWS, STAGE)
        assert not foe.is_joined
        assert not foe.receive(0.5)
        assert not stage.receive(0.0)
        assert foe.num_failed_handshakes >= 1


def test_a_refused_client_gets_in_once_its_key_is_listed(
    forwarder: Forwarder, broker: BrokerSettings, folder: KeyFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(guard_module, "RELOAD_S", 0.1)
    other = KeyFolder(folder.path.with_name("other"))
    other.create("late", num_servers=1)
    keys = replace(keys_of(other, "late"), servers=keys_of(folder).servers)
    with ExitStack() as stack:
        link = linked(broker, keys, stack)
        eventually(lambda: guard_of(forwarder).refused[UNLISTED] >= 1)
        (folder.server / "late.1.key").write_bytes((other.server / "late.1.key").read_bytes())
        eventually(lambda: link.is_joined)


def test_a_client_with_keys_joins_a_broker_that_gets_its_keys_later(
    broker: BrokerSettings, folder: KeyFolder
) -> None:
    plain = forward(broker, None)
    with ExitStack() as stack:
        link = linked(broker, keys_of(folder), stack)
        eventually(lambda: link.num_failed_handshakes >= 2)
        assert not link.is_joined
        plain.stop()
        stack.callback(forward(broker, folder).stop)
        eventually(lambda: link.is_joined)


def test_a_key_that_is_struck_off_keeps_its_connection_until_the_broker_restarts(
    broker: BrokerSettings, folder: KeyFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(guard_module, "RELOAD_S", 0.1)
    old = keys_of(folder)
    folder.add("fleet")
    forwarder = forward(broker, folder)
    with ExitStack() as stack:
        link = linked(broker, old, stack)
        eventually(lambda: link.is_joined)
        folder.retire("fleet")
        eventually(lambda: guard_of(forwarder).num_listed == 1)
        late = linked(broker, old, stack)
        eventually(lambda: guard_of(forwarder).refused[UNLISTED] >= 1)
        assert link.is_joined
        assert not late.is_joined
        forwarder.stop()
        again = forward(broker, folder)
        stack.callback(again.stop)
        eventually(lambda: guard_of(again).refused[UNLISTED] >= 2)
        eventually(lambda: not link.is_joined)


def test_a_list_in_a_kubernetes_volume_is_followed_through_its_links(
    broker: BrokerSettings, folder: KeyFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(guard_module, "RELOAD_S", 0.1)
    volume = tmp_path / "volume"
    volume.mkdir()

    def project(version: str) -> None:
        """As a kubelet does: a new folder, and one link that is replaced in one step."""
        shutil.copytree(folder.server, volume / version)
        (volume / "..partial").symlink_to(version)
        (volume / "..partial").rename(volume / "..data")
        for file in (volume / version).iterdir():
            if not (volume / file.name).is_symlink():
                (volume / file.name).symlink_to(Path("..data") / file.name)

    project("..1")
    publish_at, subscribe_at = bind_endpoints(broker)
    forwarder = Forwarder(publish_at=publish_at, subscribe_at=subscribe_at, keys=ServerKeys.read(volume))
    try:
        assert guard_of(forwarder).num_listed == 1
        folder.add("fleet")
        project("..2")
        eventually(lambda: guard_of(forwarder).num_listed == 2)
    finally:
        forwarder.stop()


@pytest.mark.parametrize("way", ["garbled", "gone"])
def test_a_list_that_cannot_be_read_leaves_the_last_one_in_force(
    forwarder: Forwarder,
    broker: BrokerSettings,
    folder: KeyFolder,
    monkeypatch: pytest.MonkeyPatch,
    way: str,
) -> None:
    monkeypatch.setattr(guard_module, "RELOAD_S", 0.1)
    keys = keys_of(folder)
    with capture_logs() as logs, ExitStack() as stack:
        if way == "garbled":
            (folder.server / "fleet.1.key").write_text("curve\n")
        else:
            folder.server.rename(folder.server.with_name("elsewhere"))
        eventually(lambda: "guard.list_kept" in [entry["event"] for entry in logs])
        link = linked(broker, keys, stack)
        eventually(lambda: link.is_joined)


def test_a_failure_of_the_guard_lets_nobody_in_and_ends_nothing(
    forwarder: Forwarder, broker: BrokerSettings, folder: KeyFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    with capture_logs() as logs, ExitStack() as stack:
        monkeypatch.setattr(guard_of(forwarder), "_allowed", None)  # whatever goes wrong inside
        link = linked(broker, keys_of(folder), stack)
        eventually(lambda: "guard.failed" in [entry["event"] for entry in logs])
        assert not link.is_joined
        assert forwarder.statistics()


def test_without_anybody_to_answer_nobody_gets_in(folder: KeyFolder) -> None:
    """libzmq alone would let in every key when no handler is bound."""
    context = zmq.Context()
    guard = Guard(context, ServerKeys.read(folder.server), domain="bus")
    server = context.socket(zmq.REP)
    guard.protect(server)
    port = server.bind_to_random_port("tcp://127.0.0.1")
    guard.close()
    client = zmq.Context()
    try:
        asking, keys = client.socket(zmq.REQ), keys_of(folder)
        asking.set(zmq.CURVE_PUBLICKEY, keys.own.public)
        asking.set(zmq.CURVE_SECRETKEY, keys.own.secret)
        asking.set(zmq.CURVE_SERVERKEY, keys.servers[0])
        asking.connect(f"tcp://127.0.0.1:{port}")
        asking.send(b"let me in")
        assert not server.poll(1000)
    finally:
        for one in (client, context):
            one.destroy(linger=0)


def test_refusals_are_logged_with_key_and_address_but_not_without_end(
    forwarder: Forwarder, broker: BrokerSettings, folder: KeyFolder
) -> None:
    keys = unlisted(folder)
    guard = guard_of(forwarder)
    with capture_logs() as logs, ExitStack() as stack:
        for _ in range(8):
            linked(broker, keys, stack)
        eventually(lambda: guard.refused[UNLISTED] >= 16)
    said = [entry for entry in logs if entry["event"] == "guard.refused"]
    assert 0 < len(said) < 16
    assert {(entry["key"], entry["address"]) for entry in said} == {(keys.own.public.decode(), "127.0.0.1")}
    assert keys.own.secret.decode() not in str(logs)
