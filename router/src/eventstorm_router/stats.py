"""The router's own source: what has passed through it, as events of the topic ``eventstorm.stats``."""

from __future__ import annotations

import os
import socket
import sys
import time
from dataclasses import dataclass, replace
from typing import Any

import bson
import zmq

from eventstorm.topics import wire_topic
from eventstorm.wire import Header, encode_event, encode_message

__all__ = ["TOPIC", "StatsSource", "Traffic"]

TOPIC = "eventstorm.stats"


@dataclass(frozen=True, slots=True)
class Traffic:
    """What the proxy has moved since it started. ZeroMQ counts frames; a batch of events has three."""

    events_in_frames: int
    events_in_bytes: int
    interest_out_frames: int
    interest_out_bytes: int
    interest_in_frames: int
    interest_in_bytes: int
    events_out_frames: int
    events_out_bytes: int

    @classmethod
    def from_reply(cls, frames: list[bytes]) -> Traffic:
        """Read the answer to ``STATISTICS``, in the order of `zmq_proxy_steerable(3)`."""
        return cls(*(int.from_bytes(frame, sys.byteorder) for frame in frames))

    def document(self) -> dict[str, Any]:
        """Return the counters as the fields of an event."""
        return {
            "events": {
                "received": {"frames": self.events_in_frames, "bytes": self.events_in_bytes},
                "sent": {"frames": self.events_out_frames, "bytes": self.events_out_bytes},
            },
            "interest": {
                "received": {"frames": self.interest_in_frames, "bytes": self.interest_in_bytes},
                "sent": {"frames": self.interest_out_frames, "bytes": self.interest_out_bytes},
            },
        }


class StatsSource:
    """A source of one topic, on an XPUB socket that reaches the ingress. For one thread.

    Numbers count only what was heard, and go on where they were when interest leaves and comes back.
    """

    def __init__(self, publisher: zmq.Socket[bytes]) -> None:
        self._publisher = publisher
        self._interest: set[bytes] = set()
        self._header = Header(
            source_id=bson.ObjectId().binary,
            tid=0,
            seq=0,
            n=0,
            drop=0,
            at_ms=0,
            host=socket.gethostname(),
            service="eventstorm-router",
            pid=os.getpid(),
        )

    def heard(self) -> bool:
        """Take in what subscriptions have arrived, and tell whether anybody wants these events."""
        while self._publisher.poll(0):
            message = self._publisher.recv()
            if message[:1] == b"\1":
                self._interest.add(message[1:])
            elif message[:1] == b"\0":
                self._interest.discard(message[1:])
        return any(wire_topic(TOPIC).startswith(prefix) for prefix in self._interest)

    def heartbeat(self, *, bye: bool = False) -> None:
        """Tell the next number, so that a loss of the events before it is seen."""
        self._send(replace(self._header, n=0, bye=bye), b"")

    def emit(self, data: dict[str, Any]) -> None:
        """Send one event."""
        self._send(replace(self._header, n=1), encode_event(_now_ms(), bson.encode(data)))
        self._header = replace(self._header, seq=self._header.seq + 1)

    def _send(self, header: Header, payload: bytes) -> None:
        self._publisher.send_multipart(encode_message(TOPIC, replace(header, at_ms=_now_ms()), payload))


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
