"""A source that sends what a test wants, and what a sink has made of it."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import bson
import zmq

from eventstorm.wire import Header, encode_event, encode_message
from eventstorm_sinks.settings import SinkSettings
from eventstorm_sinks.sink import Sink
from eventstorm_sinks.stores import open_store

ANY_PORT = "tcp://127.0.0.1:0"
# As long as a busy machine may take.
DEADLINE_S = 60.0


def wait_for(condition: Callable[[], Any]) -> Any:
    """Wait until `condition` gives something true, and return it."""
    deadline = time.monotonic() + DEADLINE_S
    while not (value := condition()):
        assert time.monotonic() < deadline
        time.sleep(0.005)
    return value


class Source:
    """A raw source, which can also tell lies."""

    def __init__(self, endpoint: str) -> None:
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self.socket = self._context.socket(zmq.XPUB)
        self.socket.linger = 0
        self.socket.connect(endpoint)
        self.id = bson.ObjectId().binary
        self.interest: set[bytes] = set()

    def hear(self) -> None:
        """Take in subscriptions."""
        while self.socket.poll(0):
            frame = self.socket.recv()
            (self.interest.add if frame[:1] == b"\x01" else self.interest.discard)(frame[1:])

    def wait_for_interest(self, prefix: bytes = b"") -> None:
        """Wait for a subscription."""

        def heard() -> bool:
            self.hear()
            return prefix in self.interest

        wait_for(heard)

    def send(self, seq: int, n: int, drop: int = 0, topic: str = "shop.order", tid: int = 0) -> None:
        """Send one message of numbered events."""
        header = Header(self.id, tid, seq, n, drop, 0, "host", "shop", 1)
        events = [encode_event(1000 + seq, bson.encode({"number": number})) for number in range(seq, seq + n)]
        self.socket.send_multipart(encode_message(topic, header, b"".join(events)))

    def close(self) -> None:
        """Close the socket."""
        self.socket.close()
        self._context.term()


def row(sink: Sink, topic: str = "shop.order") -> Any:
    """Return the ledger's row of a topic, if there is one."""
    return next((row for row in sink.snapshot().rows if row.topic == topic), None)


def stored(sink: Sink, topic: str = "shop.order") -> int:
    """Return how many events of a topic are stored."""
    found = row(sink, topic)
    return found.stores[0].stored if found else 0


def documents(url: str, topic: str) -> list[dict[str, Any]]:
    """Return what a closed store holds of a topic."""
    store = open_store(url, SinkSettings())
    found = [bson.decode(event.data) for event in store.read([topic])]
    store.close()
    return found
