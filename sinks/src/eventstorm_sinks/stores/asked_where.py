"""Questions with conditions on what is in the events: read from any store, and put together here, alike for all.

A store leaves out what does not match before it gives the rest, where it can. It is asked for one span of time after
the other, longer ones while they are quick, so that a question ends soon after its time is up; in bounded memory.
"""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing
from typing import Any

from eventstorm.errors import EventstormError
from eventstorm_sinks.batch import StoredEvent
from eventstorm_sinks.live_values import decode, dig, number
from eventstorm_sinks.stores import Readable, Reader, Series, TopicSummary
from eventstorm_sinks.stores._fold import NameCounter, SeriesFold, check_series, line_name
from eventstorm_sinks.stores._search import containing
from eventstorm_sinks.stores.where import Condition

__all__ = ["AskedWhere"]

# The first span, what the next ones grow and shrink by, and how long one should take.
_FIRST_MS, _FACTOR = 60_000, 4
_QUICK_S, _SLOW_S = 0.2, 1.0
_EVENTS_A_LOOK = 1_000
# A time that all stores know how to compare with, far beyond any that they hold.
_MOST_MS = 2**62

_HEADS: dict[str, Callable[[StoredEvent], Any]] = {
    "topic": lambda event: event.topic,
    "source.id": lambda event: event.source.id.hex(),
    "source.host": lambda event: event.source.host,
    "source.service": lambda event: event.source.service,
    "source.pid": lambda event: event.source.pid,
}


class AskedWhere:
    """Asks a store for the events of which conditions hold.

    Args:
        store: is read.
        reader: the same store, which tells what topics it has.
        where: all have to hold.
        timeout_s: how long a question may take.
    """

    def __init__(self, store: Readable, reader: Reader, where: Sequence[Condition], timeout_s: float) -> None:
        self._store, self._reader, self._where, self._timeout_s = store, reader, where, timeout_s
        self._stop_at_s = time.monotonic() + timeout_s

    def recent(self, topics: Sequence[str], text: str, before_ms: int | None, limit: int) -> list[StoredEvent]:
        """Return the newest of these events, newest first; see `Reader.recent`.

        Raises:
            EventstormError: the time is up, or the store is away.
        """
        known = [each for each in self._reader.topics() if _is_asked(each, topics)]
        if not known or limit <= 0:
            return []
        names = [each.topic for each in known] if topics else []
        first_ms, stop_ms = min(each.first_ms for each in known), max(each.last_ms for each in known) + 1
        found: list[StoredEvent] = []
        for start_ms, until_ms in self._spans(first_ms, stop_ms if before_ms is None else min(before_ms, stop_ms)):
            with closing(self._read(names, start_ms, until_ms)) as events:
                newest = deque(containing(events, text, self._timeout_s), limit - len(found))
            found += reversed(newest)
            if len(found) == limit:
                break
        return found

    def series(
        self,
        topic: str,
        field: str | None,
        aggregate: str,
        start_s: int,
        stop_s: int,
        step_s: int,
        by: str | None = None,
    ) -> list[Series]:
        """Aggregate a numeric field of these events over steps of time; see `Reader.series`.

        Percentiles are within 1 %. A path that meets an array has no value.

        Raises:
            ValueError: an argument is not of those that there are.
            EventstormError: the time is up, or the store is away.
        """
        check_series(field, aggregate, start_s, step_s, by)
        first_ms, stop_ms = max(start_s * 1000, -_MOST_MS), min(stop_s * 1000, _MOST_MS)

        def events() -> Iterator[StoredEvent]:
            for start_ms, until_ms in self._spans(first_ms, stop_ms):
                yield from self._read([topic] if topic else [], start_ms, until_ms)

        names = [""]
        if by is not None:
            counter = NameCounter()
            for each in events():
                counter.add(_name(each, by))
            names = counter.commonest()
        fold = SeriesFold(aggregate, start_s, step_s, names)
        for each in events():
            value = 1.0 if field is None else number(dig(decode(each.data) or {}, field))
            fold.add("" if by is None else _name(each, by), each.ts_ms, value)
        return fold.series()

    def _spans(self, first_ms: int, stop_ms: int) -> Iterator[tuple[int, int]]:
        """Yield spans of time from the last to the first, and check between them that there is time left."""
        length_ms, grown, before_s = _FIRST_MS, True, math.inf
        while first_ms < stop_ms:
            self._check_time()
            start_ms, began_s = max(first_ms, stop_ms - length_ms), time.monotonic()
            yield start_ms, stop_ms
            took_s = time.monotonic() - began_s
            # Also where a store takes long over any question, however little time it is about.
            grown = took_s < _QUICK_S or (grown and took_s < 2 * min(before_s, _SLOW_S))
            if grown:
                length_ms *= _FACTOR
            elif took_s > _SLOW_S:
                length_ms = max(length_ms // _FACTOR, 1)
            stop_ms, before_s = start_ms, took_s

    def _read(self, topics: Sequence[str], start_ms: int, stop_ms: int) -> Generator[StoredEvent, None, None]:
        for number_of_it, each in enumerate(self._store.read(topics, start_ms, stop_ms, self._where)):
            if number_of_it % _EVENTS_A_LOOK == 0:
                self._check_time()
            yield each

    def _check_time(self) -> None:
        if time.monotonic() > self._stop_at_s:
            raise EventstormError(f"the question took more than {self._timeout_s:g} s: ask for less time, or one topic")


def _is_asked(summary: TopicSummary, topics: Sequence[str]) -> bool:
    name = summary.topic
    return not topics or any(name.startswith(each) if each.endswith(".") else name == each for each in topics)


def _name(event: StoredEvent, by: str) -> str:
    return line_name(_HEADS[by](event) if by in _HEADS else dig(decode(event.data) or {}, by))
