"""A counting sink. Usage: counter.py ENDPOINT one|batch SECONDS.

Connects to a router's egress, subscribes to the bench's topic, and counts events until none came for SECONDS. Prints
`ready` to standard error, at the end one line of JSON: how many events, in how many seconds from the first to the last
message.
"""

from __future__ import annotations

import json
import sys
import time

import zmq

from eventstorm.wire import decode_message
from harness import TOPIC


def main() -> None:
    """Count."""
    batches = sys.argv[2] == "batch"
    socket: zmq.Socket[bytes] = zmq.Context.instance().socket(zmq.SUB)
    socket.rcvhwm = 0
    socket.connect(sys.argv[1])
    socket.subscribe(TOPIC.encode() + b"\0")
    print("ready", file=sys.stderr, flush=True)
    events, first, last = 0, 0.0, 0.0
    receive = socket.recv_multipart
    socket.rcvtimeo = 30_000  # for the first message
    while True:
        try:
            frames = receive()
        except zmq.Again:
            break
        count = decode_message(frames).header.n if batches else 1
        if count:
            last = time.perf_counter()
            if not events:
                first = last
                socket.rcvtimeo = int(float(sys.argv[3]) * 1000)
            events += count
        elif events and time.perf_counter() - last > float(sys.argv[3]):
            break  # only heartbeats come
    print(json.dumps({"events": events, "seconds": last - first}))


main()
