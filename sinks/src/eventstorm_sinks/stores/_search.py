"""Looking for a text in events, for stores that cannot do it themselves."""

from __future__ import annotations

import time
from collections.abc import Iterator

from eventstorm.errors import EventstormError
from eventstorm_sinks.batch import StoredEvent
from eventstorm_sinks.live_values import json_text

__all__ = ["containing"]


def containing(events: Iterator[StoredEvent], text: str, timeout_s: float) -> Iterator[StoredEvent]:
    """Yield the events with `text` in their topic, or in their document as JSON, in upper and lower case alike.

    Raises:
        EventstormError: it took more than `timeout_s`.
    """
    if not text:
        yield from events
        return
    wanted = text.lower()
    stop_at_s = time.monotonic() + timeout_s
    for each in events:
        if time.monotonic() > stop_at_s:
            raise EventstormError(f"the search took more than {timeout_s:g} s: ask for one topic, or a rarer text")
        if wanted in each.topic or wanted in (json_text(each.data) or "").lower():
            yield each
