"""The guard of a server's sockets: CURVE, and an answer to every peer that asks to come in (ZAP, RFC 27).

A thread of its own owns the ZAP socket, so libzmq asks it and not the loop that moves messages. It fails closed: without an
answer nobody gets in (``ZAP_ENFORCE_DOMAIN``; libzmq would else let in any key when no handler is bound). The allow-list is
read again when its files change; one that cannot be read leaves the last one in force. No failure here ends the server.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import structlog
import zmq
from zmq.utils import z85
from zmq.utils.monitor import parse_monitor_message

from pipespec.bus.keys import AllowList, KeyPair, read_allow_list, read_secret, server_secret_file
from pipespec.bus.queues import Waker
from pipespec.bus.sockets import Context, Socket
from pipespec.ops.errors import SettingsError

UNLISTED, WRONG_SERVER_KEY, NO_CURVE, BROKEN_OFF = (
    "unlisted_key",
    "wrong_server_key",
    "no_curve",
    "broken_off",
)
REASONS = (UNLISTED, WRONG_SERVER_KEY, NO_CURVE, BROKEN_OFF)
"""Why a handshake came to nothing. A peer without CURVE mostly hangs up first, which is ``broken_off``."""
RELOAD_S = 2.0
_ZAP = "inproc://zeromq.zap.01"
_FAILED = (
    zmq.EVENT_HANDSHAKE_FAILED_AUTH
    | zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL
    | zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL
)
_MECHANISM_MISMATCH = 0x11000002
_LINES, _PER_S = 5, 10.0
"""Log lines about refusals at most, per so many seconds."""

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class ServerKeys:
    """Where a server's keys are, and its own, which is read once.

    Raises:
        SettingsError: a file is missing, is no key, or can be read by others.
    """

    folder: Path
    own: KeyPair

    @classmethod
    def read(cls, folder: Path, *, index: int = 0) -> ServerKeys:
        """The keys of server ``index``; its allow-list must be readable too."""
        read_allow_list(folder)
        return cls(folder, read_secret(folder / server_secret_file(index)))


class Guard:
    """Lets in who is on the list. ``protect`` sockets before they bind, ``close`` when they are closed.

    Attributes:
        refused: handshakes that came to nothing, by reason.
        num_accepted: handshakes of listed keys.
    """

    def __init__(self, context: Context, keys: ServerKeys, *, domain: str) -> None:
        self.refused: Counter[str] = Counter(dict.fromkeys(REASONS, 0))
        self.num_accepted = 0
        self._keys = keys
        self._domain = domain
        self._context = context
        self._allowed: AllowList = {}
        self._seen: object = None
        self._reload_s = 0.0
        self._quiet = _Quiet()
        self._waker = Waker()
        self._stop = threading.Event()
        self._monitors: list[Socket] = []
        self._zap = context.socket(zmq.ROUTER)
        self._zap.set(zmq.LINGER, 0)
        self._zap.bind(_ZAP)
        self._thread = threading.Thread(target=self._run, name=f"guard-{domain}", daemon=True)

    @property
    def num_listed(self) -> int:
        """Keys on the list that is in force."""
        return len(self._allowed)

    def protect(self, socket: zmq.Socket[Any]) -> None:
        """Make it a CURVE server whose peers the list decides on."""
        socket.set(zmq.CURVE_SERVER, 1)
        socket.set(zmq.CURVE_SECRETKEY, self._keys.own.secret)
        socket.set(zmq.ZAP_DOMAIN, self._domain.encode())
        socket.set(zmq.ZAP_ENFORCE_DOMAIN, 1)
        address = f"inproc://refusals-{self._domain}-{len(self._monitors)}"
        socket.monitor(address, _FAILED)
        monitor = self._context.socket(zmq.PAIR)
        monitor.set(zmq.LINGER, 0)
        monitor.connect(address)
        self._monitors.append(monitor)

    def start(self) -> None:
        """Begin to answer; those who asked before get their answer now."""
        self._look_at_files()
        self._thread.start()

    def close(self) -> None:
        """Stop answering, and free the sockets."""
        self._stop.set()
        self._waker.wake()
        if self._thread.is_alive():
            self._thread.join(timeout=5)
        for socket in (self._zap, *self._monitors):
            socket.close(linger=0)
        self._waker.close()

    def _run(self) -> None:
        poller = zmq.Poller()
        for socket in (self._zap, *self._monitors):
            poller.register(socket, zmq.POLLIN)
        poller.register(self._waker.fileno(), zmq.POLLIN)
        while not self._stop.is_set():
            try:
                ready = dict(poller.poll(int(RELOAD_S * 1000)))
                self._look_at_files()
                if self._zap in ready:
                    self._answer()
                for monitor in self._monitors:
                    if monitor in ready:
                        self._note(monitor)
            except Exception:
                log.exception("guard.failed", domain=self._domain)
                self._stop.wait(0.1)

    def _answer(self) -> None:
        identity, delimiter, version, request, domain, address, _, mechanism, *credentials = (
            self._zap.recv_multipart(zmq.NOBLOCK)
        )
        key = z85.encode(credentials[0]) if mechanism == b"CURVE" and len(credentials) == 1 else b""
        peer = self._allowed.get(key) if domain == self._domain.encode() else None
        if peer is None:
            self.refused[UNLISTED] += 1
            self._say(reason=UNLISTED, key=key.decode(), address=address.decode("ascii", "replace"))
            verdict = (b"400", b"this key may not connect", b"")
        else:
            self.num_accepted += 1
            log.debug("guard.accepted", domain=self._domain, peer=peer.name, generation=peer.generation)
            verdict = (b"200", b"OK", peer.name.encode())
        self._zap.send_multipart((identity, delimiter, version, request, *verdict, b""), zmq.NOBLOCK)

    def _note(self, monitor: Socket) -> None:
        message = parse_monitor_message(monitor.recv_multipart(zmq.NOBLOCK))
        event, value = message["event"], message["value"]
        if event == zmq.EVENT_HANDSHAKE_FAILED_AUTH or event & _FAILED == 0:
            return  # counted where it was decided
        if event == zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL:
            reason = BROKEN_OFF
        else:
            reason = NO_CURVE if value == _MECHANISM_MISMATCH else WRONG_SERVER_KEY
        self.refused[reason] += 1
        self._say(reason=reason, at=message["endpoint"].decode("ascii", "replace"))

    def _say(self, **fields: str) -> None:
        suppressed = self._quiet.ask(time.monotonic())
        if suppressed is not None:
            log.warning("guard.refused", domain=self._domain, suppressed=suppressed, **fields)

    def _look_at_files(self) -> None:
        if time.monotonic() < self._reload_s:
            return
        self._reload_s = time.monotonic() + RELOAD_S
        seen = _state_of(self._keys.folder)
        if seen == self._seen:
            return
        self._seen = seen
        try:
            allowed = read_allow_list(self._keys.folder)
        except SettingsError as error:
            log.warning("guard.list_kept", domain=self._domain, problem=str(error))
            return
        self._allowed = allowed
        peers = sorted(f"{peer.name}.{peer.generation}" for peer in allowed.values())
        log.info("guard.list_read", domain=self._domain, peers=peers)


class _Quiet:
    """Bounds what refusals may say in the log: a scan of the port must not fill a disk."""

    def __init__(self) -> None:
        self._until_s = 0.0
        self._left = 0
        self._suppressed = 0

    def ask(self, now_s: float) -> int | None:
        """Lines that were not written since the last one, or None when this one is not to be written."""
        if now_s >= self._until_s:
            self._until_s, self._left = now_s + _PER_S, _LINES
        if self._left == 0:
            self._suppressed += 1
            return None
        self._left -= 1
        suppressed, self._suppressed = self._suppressed, 0
        return suppressed


def _state_of(folder: Path) -> object:
    """Changes with the files of the list: in a Secret's volume they are links that lead elsewhere after an update."""
    try:
        entries = [(entry.name, entry.stat()) for entry in folder.iterdir() if entry.suffix == ".key"]
    except OSError as error:
        return error.errno
    return sorted((name, found.st_mtime_ns, found.st_size, found.st_ino) for name, found in entries)
