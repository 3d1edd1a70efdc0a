"""Rows of a table or view ``events`` as stored events: of any number in the order of time, some at a time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import duckdb

from eventstorm_sinks.batch import Source, StoredEvent
from eventstorm_sinks.stores import TopicSummary
from eventstorm_sinks.stores.duckdb._documents import decode_document
from eventstorm_sinks.stores.duckdb._writer import MAX_TS_MS, MIN_TS_MS

__all__ = ["COLUMNS", "between", "event_of", "read_events", "read_topics"]

COLUMNS = "id, epoch_ms(ts), topic, source, CASE WHEN bson IS NULL THEN data::JSON END, bson"
"""What `event_of` takes: of a plain document its text, from which the BSON is made again."""

# What is sorted and fetched at a time. How many events that are depends on how large the last ones were.
_WINDOW_BYTES = 8 * 2**20
_FIRST_EVENTS, _LEAST_EVENTS, _MOST_EVENTS = 1_000, 64, 20_000
# How many parts a span of time is counted in.
_PARTS = 2_000


def between(start_ms: int | None, stop_ms: int | None) -> tuple[list[str], dict[str, Any]]:
    """Return the conditions for a span of time, as comparisons that let DuckDB skip what lies outside."""
    conditions = ["true"]
    values: dict[str, Any] = {}
    for name, comparison, value in (("start_ms", ">=", start_ms), ("stop_ms", "<", stop_ms)):
        if value is None:
            continue
        if value > MAX_TS_MS:
            # After the last possible time, which DuckDB 1.5 cannot write as a time any more.
            conditions.append(f"ts {comparison} 'infinity'::TIMESTAMPTZ")
            continue
        conditions.append(f"ts {comparison} make_timestamp_ms(${name})::TIMESTAMPTZ")
        values[name] = max(value, MIN_TS_MS)
    return conditions, values


def event_of(row: tuple[Any, ...]) -> StoredEvent:
    """Return the event of a row of `COLUMNS`."""
    id, ts_ms, topic, source, text, bson = row
    return StoredEvent(id, ts_ms, topic, Source(**source), decode_document(text) if bson is None else bson)


def read_topics(connection: duckdb.DuckDBPyConnection) -> list[TopicSummary]:
    """Return what topics there are, by name."""
    rows = connection.execute(
        "SELECT topic, count(*), epoch_ms(min(ts)), epoch_ms(max(ts)) FROM events GROUP BY topic ORDER BY topic"
    ).fetchall()
    return [TopicSummary(*row) for row in rows]


def read_events(
    connection: duckdb.DuckDBPyConnection,
    topics: Sequence[str],
    start_ms: int | None,
    stop_ms: int | None,
    beforehand: tuple[list[str], dict[str, Any]] = ([], {}),
) -> Iterator[StoredEvent]:
    """Yield events in the order of time, then identity.

    The table is never sorted as a whole, which would take as much memory and disk as it has: spans of time are, that
    hold some thousand events each.
    """
    asked = _Asked(connection, topics, beforehand)
    for first_ms, beyond_ms in _spans(asked, start_ms, stop_ms):
        rows = asked.rows(COLUMNS, first_ms, beyond_ms, "ORDER BY epoch_ms(ts), id")
        size_bytes = 0
        for row in rows:
            event = event_of(row)
            size_bytes += len(event.data)
            yield event
        if rows:
            asked.room = min(max(_WINDOW_BYTES * len(rows) // max(size_bytes, 1), _LEAST_EVENTS), _MOST_EVENTS)


@dataclass(slots=True)
class _Asked:
    connection: duckdb.DuckDBPyConnection
    topics: Sequence[str]
    beforehand: tuple[list[str], dict[str, Any]]
    """Conditions in SQL, and the values in them."""
    room: int = _FIRST_EVENTS
    """How many events are to be fetched at a time."""

    def rows(
        self, columns: str, start_ms: int | None, stop_ms: int | None, order: str = "", **more: Any
    ) -> list[tuple[Any, ...]]:
        conditions, values = between(start_ms, stop_ms)
        if self.topics:
            conditions.append("list_contains($topics, topic)")
            values["topics"] = list(self.topics)
        conditions += self.beforehand[0]
        values.update(self.beforehand[1])
        query = f"SELECT {columns} FROM events WHERE {' AND '.join(conditions)} {order}"
        return self.connection.execute(query, {**values, **more}).fetchall()


def _spans(asked: _Asked, start_ms: int | None, stop_ms: int | None) -> Iterator[tuple[int, int]]:
    """Cut a span of time into ones that hold about `asked.room` events: in parts of equal width, and those again."""
    ((least_ms, most_ms),) = asked.rows("epoch_ms(min(ts)), epoch_ms(max(ts))", start_ms, stop_ms)
    if least_ms is None:
        return
    # Times of others have microseconds, and are rounded in either direction.
    least_ms = least_ms - 1 if start_ms is None else max(least_ms - 1, start_ms)
    most_ms = most_ms if stop_ms is None else min(most_ms, stop_ms - 1)
    width_ms = (most_ms - least_ms) // _PARTS + 1
    counted = asked.rows(
        "(epoch_ms(ts) - $least_ms) // $width_ms AS part, count(*)",
        start_ms,
        stop_ms,
        "GROUP BY part ORDER BY part",
        least_ms=least_ms,
        width_ms=width_ms,
    )
    open_ms, events = least_ms, 0
    for part, count in counted:
        from_ms = least_ms + part * width_ms
        if events and events + count > asked.room:
            yield open_ms, from_ms
            open_ms, events = from_ms, 0
        if count > asked.room and width_ms > 1:
            yield from _spans(asked, from_ms, from_ms + width_ms)
            open_ms = from_ms + width_ms
        else:
            events += count
    if events:
        yield open_ms, most_ms + 1
