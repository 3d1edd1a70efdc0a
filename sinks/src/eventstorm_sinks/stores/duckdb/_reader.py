"""Reading events back."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import duckdb

from eventstorm_sinks.batch import Source, StoredEvent
from eventstorm_sinks.stores import TopicSummary
from eventstorm_sinks.stores.duckdb._documents import decode_document

__all__ = ["read_events", "topic_summaries"]

# The text of a plain document, from which its BSON is made again.
_COLUMNS = "id, epoch_ms(ts), topic, source, CASE WHEN bson IS NULL THEN data::JSON END, bson"
_FETCHED_ROWS = 2_000


def read_events(
    connection: duckdb.DuckDBPyConnection, topics: Sequence[str], start_ms: int | None, stop_ms: int | None
) -> Iterator[StoredEvent]:
    """Yield events in the order of time, then identity."""
    where = ["true"]
    values: dict[str, Any] = {}
    if topics:
        where.append("list_contains($topics, topic)")
        values["topics"] = list(topics)
    if start_ms is not None:
        where.append("epoch_ms(ts) >= $start_ms")
        values["start_ms"] = start_ms
    if stop_ms is not None:
        where.append("epoch_ms(ts) < $stop_ms")
        values["stop_ms"] = stop_ms
    cursor = connection.execute(f"SELECT {_COLUMNS} FROM events WHERE {' AND '.join(where)} ORDER BY ts, id", values)
    while rows := cursor.fetchmany(_FETCHED_ROWS):
        yield from map(_event, rows)


def _event(row: tuple[Any, ...]) -> StoredEvent:
    id, ts_ms, topic, source, text, bson = row
    return StoredEvent(id, ts_ms, topic, Source(**source), decode_document(text) if bson is None else bson)


def topic_summaries(connection: duckdb.DuckDBPyConnection) -> list[TopicSummary]:
    """Return what topics there are, by name."""
    rows = connection.execute(
        "SELECT topic, count(*), epoch_ms(min(ts)), epoch_ms(max(ts)) FROM events GROUP BY topic ORDER BY topic"
    ).fetchall()
    return [TopicSummary(*row) for row in rows]
