"""Where events go, and waiting for them to be gone: a log can wait, so nothing of it need be dropped."""

from __future__ import annotations

import json
import math
import sys
import threading
import time
from collections.abc import Mapping
from datetime import datetime, timezone
from typing import Any, Protocol

import bson
from bson import json_util

from eventstorm import Source
from eventstorm.errors import EventstormError
from eventstorm_integrations.logs.stream import Emits, Stream

__all__ = ["Outlet", "Printer", "Sends"]

# What events take in a source's buffer, about: so many times their lines' bytes, and so much for each.
_GROWTH, _EVENT_BYTES = 4, 300
_FLUSH_S = 0.2
_SHORTEST_PAUSE_S, _LONGEST_PAUSE_S = 0.05, 5.0


class Sends(Emits, Protocol):
    """Takes events, and sends them in the background: an `eventstorm.Source`."""

    def flush(self, timeout_s: float | None = None) -> bool:
        """Wait until all events are sent, at most so many seconds; tell whether they are."""
        ...


class Outlet:
    """Waits now and then until what was emitted is sent, so that a source's buffer never overflows.

    Args:
        sends: takes the events.
        buffer_bytes: how many bytes of them it holds.
        stop: ends the waiting.
        patience_s: for so long nothing may be sent before it is an error.
    """

    def __init__(self, sends: Sends, buffer_bytes: int, stop: threading.Event, *, patience_s: float = math.inf) -> None:
        self.sends = sends
        self._most_bytes = buffer_bytes // 2
        self._stop = stop
        self._patience_s = patience_s
        self._waiting_bytes = 0

    def feed(self, stream: Stream, lines: list[str], size_bytes: int, now_s: float) -> None:
        """Give lines to a stream that emits here, so many at once as the buffer has room for."""
        parts = 1 + (_GROWTH * size_bytes + _EVENT_BYTES * len(lines)) // self._most_bytes
        at_once = max(1, len(lines) // parts)
        for at in range(0, len(lines), at_once):
            events = stream.events
            stream.feed(lines if parts == 1 else lines[at : at + at_once], now_s)
            self._waiting_bytes += _GROWTH * size_bytes // parts + _EVENT_BYTES * (stream.events - events)
            if self._waiting_bytes > self._most_bytes:
                self.drain()
            if parts == 1:
                return

    def drain(self, timeout_s: float | None = None) -> bool:
        """Wait until all is sent, by default for as long as it takes or until `stop`; tell whether it is.

        Raises:
            EventstormError: nothing can be sent, and `patience_s` is over.
        """
        give_up_at_s = time.monotonic() + self._patience_s
        pause_s = _SHORTEST_PAUSE_S
        while True:
            if self.sends.flush(_FLUSH_S if timeout_s is None else timeout_s):
                self._waiting_bytes = 0
                return True
            if timeout_s is not None or self._stop.is_set():
                return False
            if (
                time.monotonic() > give_up_at_s
                and isinstance(self.sends, Source)
                and not self.sends.stats()["connected"]
            ):
                endpoint = self.sends.settings.endpoint if self.sends.settings else ""
                raise EventstormError(f"no router answered at {endpoint}, so not all was sent; start one there")
            # Waiting for a flush looks a thousand times a second, which is too often where no router is for hours.
            self._stop.wait(pause_s)
            pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)


class Printer:
    """Stands in for a source: writes events as lines of relaxed Extended JSON, like ``eventstorm tap --json``."""

    def emit_at(self, topic: str, event: Mapping[str, Any], ts_s: float, /) -> bool:
        """Write an event."""
        try:
            at = datetime.fromtimestamp(ts_s, timezone.utc).isoformat(timespec="milliseconds")
        except (OverflowError, ValueError, OSError):
            at = str(ts_s)
        line = {"ts": {"$date": at.replace("+00:00", "Z")}, "topic": topic, "data": event}
        try:
            text = json.dumps(line, allow_nan=False)
        except (TypeError, ValueError):  # something that JSON has not; this takes several times as long
            text = json_util.dumps(line, json_options=json_util.RELAXED_JSON_OPTIONS)
        sys.stdout.write(text + "\n")
        return True

    def emit_encoded(self, topic: str, data: bytes, ts_s: float, /) -> bool:
        """Write one whose data is in BSON."""
        return self.emit_at(topic, bson.decode(data), ts_s)

    def flush(self, timeout_s: float | None = None) -> bool:
        """Give what was written to whoever reads it."""
        sys.stdout.flush()
        return True
