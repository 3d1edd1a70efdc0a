"""A logger whose records become events, and these events."""

from __future__ import annotations

from typing import Any

from eventstorm.testing import CapturedEvents

TOPIC = "log.record"


def only(events: CapturedEvents) -> dict[str, Any]:
    """Return the one event that there is."""
    (event,) = events.of(TOPIC)
    return event
