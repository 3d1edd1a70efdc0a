"""Whether a router is at the other end: a subscription does not tell by itself, since a silent fleet looks the same."""

from __future__ import annotations

import time
from typing import Any

import zmq
from zmq.utils.monitor import recv_monitor_message

__all__ = ["RouterLink"]


class RouterLink:
    """Watches one socket's connection, from before it connects.

    Made, looked at and closed by the socket's thread; `away_s` may be asked by any.
    """

    def __init__(self, socket: zmq.Socket[Any]) -> None:
        self._socket = socket
        self._events = socket.get_monitor_socket(zmq.EVENT_HANDSHAKE_SUCCEEDED | zmq.EVENT_DISCONNECTED)
        self._away_since_s: float | None = time.monotonic()

    @property
    def away_s(self) -> float:
        """For how many seconds there has been no router, as of the last look; 0 if there is one."""
        since_s = self._away_since_s
        return 0.0 if since_s is None else time.monotonic() - since_s

    def look(self) -> None:
        """Take in what has happened to the connection; never waits."""
        while self._events.poll(0):
            if recv_monitor_message(self._events)["event"] == zmq.EVENT_HANDSHAKE_SUCCEEDED:
                self._away_since_s = None
            elif self._away_since_s is None:
                self._away_since_s = time.monotonic()

    def close(self) -> None:
        """End the watching; before the socket is closed."""
        self._socket.disable_monitor()
        self._events.close(linger=0)  # left open, it would keep the context from ending
