"""A peer that sources connect to and that listens to everything, or to nothing. Usage: listener.py ENDPOINT [PREFIX].

It stands for a router whose sinks want PREFIX. Without one it subscribes to a topic that nobody emits, so that a source
learns that there is a router and that nobody listens. Prints `ready` to standard error.
"""

from __future__ import annotations

import sys

import zmq


def main() -> None:
    """Receive, and throw away."""
    socket: zmq.Socket[bytes] = zmq.Context.instance().socket(zmq.SUB)
    socket.rcvhwm = 0
    socket.bind(sys.argv[1])
    socket.subscribe(sys.argv[2] if len(sys.argv) > 2 else "nobody.emits.this\0")
    print("ready", file=sys.stderr, flush=True)
    while True:
        socket.recv()


main()
