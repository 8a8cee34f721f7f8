"""Opens calls on one connection and resets each at once, as fast as it can.

python flood.py PORT CALLS [with-message]
"""

from __future__ import annotations

import socket
import sys
import threading
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from gateway.grpc.http2 import ACK, PREFACE, SETTINGS, call, frame, message, reset
from pipespec.v1 import pipespec_pb2 as pb

TIMEOUT_S = 120
BATCH = 50


def drain(connection: socket.socket) -> None:
    """Read and forget."""
    try:
        while connection.recv(65_536):
            pass
    except OSError:
        return


def main(port: str, num_calls: str, with_message: str = "") -> None:
    """Flood a server on this machine; being sent away is a success."""
    body = pb.GenerateRequest(text="hello").SerializeToString()
    with socket.create_connection(("127.0.0.1", int(port)), timeout=TIMEOUT_S) as connection:
        connection.sendall(PREFACE + frame(SETTINGS) + frame(SETTINGS, flags=ACK))
        threading.Thread(target=drain, args=[connection], daemon=True).start()
        for first in range(0, int(num_calls), BATCH):
            streams = range(2 * first + 1, 2 * (first + BATCH), 2)
            pieces = [
                call(stream) + (message(stream, body) if with_message else b"") + reset(stream)
                for stream in streams
            ]
            try:
                connection.sendall(b"".join(pieces))
            except ConnectionError:
                return


main(*sys.argv[1:])
