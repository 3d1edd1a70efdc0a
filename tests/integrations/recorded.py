"""Takes events in place of the SDK: encoded as it would, so that nothing passes that could not be sent."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import bson

from eventstorm.context import common_fields


class Recorded:
    """A source whose events can be looked at."""

    def __init__(self, wanted: bool = True) -> None:
        self.heard = wanted
        self.events: list[tuple[str, dict[str, Any], float]] = []

    def emit(self, topic: str, event: Mapping[str, Any], /) -> bool:
        """Take an event."""
        return self.emit_at(topic, event, time.time())

    def emit_at(self, topic: str, event: Mapping[str, Any], ts_s: float, /) -> bool:
        """Take an event of another time."""
        merged = {**(common_fields.get() or {}), **event}
        self.events.append((topic, bson.decode(bson.encode(merged)), ts_s))
        return True

    def emit_encoded(self, topic: str, data: bytes, ts_s: float | None = None, /) -> bool:
        """Take an event that is encoded already."""
        event = bson.decode(data)
        assert bson.encode(event) == data
        self.events.append((topic, event, time.time() if ts_s is None else ts_s))
        return True

    def wanted(self, topic: str) -> bool:
        """Tell whether the test wants any."""
        return self.heard

    def of(self, topic: str) -> list[dict[str, Any]]:
        """Return the events of a topic."""
        return [data for each, data, _ in self.events if each == topic]

    def hit(self) -> dict[str, Any]:
        """Return the one hit that there is."""
        (hit,) = self.of("http.hit")
        return hit
