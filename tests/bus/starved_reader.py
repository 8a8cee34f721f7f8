"""A program that subscribes, does not read for longer than the heartbeat timeout, twice, and then says what arrived."""

from __future__ import annotations

import sys
import time

import zmq

from pipespec.bus.sockets import Context, connect, publisher, subscriber

MESSAGES = 3000
"""More than any bounded queue on the way holds."""
STARVED_S = 2.2


def main(publish_to: str, subscribe_at: str) -> None:
    context: Context = zmq.Context()
    pub, sub = publisher(context, [publish_to]), subscriber(context, [subscribe_at], [b"flood"])
    connect(pub, [publish_to], None)
    connect(sub, [subscribe_at], None)
    while not sub.poll(20):
        pub.send_multipart((b"flood", b"joined"))
    received = 0
    for _ in range(2):
        for number in range(MESSAGES):
            pub.send_multipart((b"flood", bytes(300)))
            if number % 100 == 0:
                time.sleep(0.005)
        time.sleep(STARVED_S)
        while sub.poll(100):
            sub.recv_multipart()
            received += 1
    sys.stdout.write(f"{received}\n")
    context.destroy(linger=0)


if __name__ == "__main__":
    main(*sys.argv[1:])
