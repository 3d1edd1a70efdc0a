"""The peer of emitter.py: pyzmq with one event a message. Usage: raw_emitter.py ENDPOINT EVENTS."""

from __future__ import annotations

import sys
import time

import bson
import zmq

from harness import FIELDS, TOPIC


def main() -> None:
    """Encode and send, waiting where the socket's queue is full: nothing is lost here."""
    socket: zmq.Socket[bytes] = zmq.Context.instance().socket(zmq.XPUB)
    socket.xpub_nodrop = True
    socket.connect(sys.argv[1])
    socket.recv()  # the subscription
    topic = TOPIC.encode() + b"\0"
    for _ in range(int(sys.argv[2])):
        event = bson.encode({"ts": bson.DatetimeMS(time.time_ns() // 1_000_000), "data": FIELDS})
        while True:
            try:
                socket.send_multipart([topic, event], flags=zmq.DONTWAIT)
                break
            except zmq.Again:
                time.sleep(0.0005)  # a send that waits inside libzmq is not faster
    socket.close(linger=10_000)
    zmq.Context.instance().term()


main()
