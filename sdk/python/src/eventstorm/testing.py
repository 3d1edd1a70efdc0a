"""For users' own tests: see what a program emits, without a router."""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Iterator
from typing import Any, NamedTuple

import bson

from eventstorm._emit import Topic, codec_options
from eventstorm._process import process

__all__ = ["CapturedEvent", "CapturedEvents", "capture_events"]


class CapturedEvent(NamedTuple):
    """One event, as a store would give it back."""

    topic: str
    data: dict[str, Any]
    ts: float
    """Seconds since 1970."""


class CapturedEvents:
    """What was emitted so far. Iterates, has a length and indices like a list of `CapturedEvent`."""

    def __init__(self) -> None:
        self._topics: dict[int, Topic] = {}
        self._queue: deque[tuple[int, float, bytes]] = deque()
        self._events: list[CapturedEvent] = []

    def _all(self) -> list[CapturedEvent]:
        while self._queue:
            index, ts, data = self._queue.popleft()
            self._events.append(CapturedEvent(self._topics[index].name, bson.decode(data, codec_options), ts))
        return self._events

    def of(self, topic: str) -> list[dict[str, Any]]:
        """Return the data of the events of one topic, in order."""
        return [event.data for event in self._all() if event.topic == topic]

    def __iter__(self) -> Iterator[CapturedEvent]:
        return iter(self._all())

    def __len__(self) -> int:
        return len(self._all())

    def __getitem__(self, index: int) -> CapturedEvent:
        return self._all()[index]

    def __repr__(self) -> str:
        return f"CapturedEvents({self._all()!r})"


@contextlib.contextmanager
def capture_events() -> Iterator[CapturedEvents]:
    """Collect the events of this process instead of sending them, as long as the block runs.

    Every topic is heard, whatever the router says. Not for two threads at once, nor nested::

        with eventstorm.testing.capture_events() as events:
            place_order()
        assert events.of("shop.order") == [{"total": 42.5}]
    """
    captured = CapturedEvents()
    restore = process._emitter.capture(captured._queue)
    captured._topics = process._emitter.by_index
    try:
        yield captured
    finally:
        restore()
