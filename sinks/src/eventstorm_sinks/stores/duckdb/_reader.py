"""Reading: events back as they came, and answers about them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from eventstorm.errors import StartError
from eventstorm_sinks.batch import Book, StoredEvent
from eventstorm_sinks.settings import SinkSettings
from eventstorm_sinks.stores import Series, SqlResult, TopicSummary
from eventstorm_sinks.stores.duckdb._database import Database, resolve_path
from eventstorm_sinks.stores.duckdb._events import COLUMNS, between, event_of, read_events, read_topics
from eventstorm_sinks.stores.duckdb._query import limited, run_query
from eventstorm_sinks.stores.duckdb._series import read_series
from eventstorm_sinks.stores.duckdb._where import beforehand
from eventstorm_sinks.stores.duckdb._writer import load_books
from eventstorm_sinks.stores.where import Condition, chosen

__all__ = ["DuckdbReader", "open_read_only"]


class DuckdbReader:
    """Answers questions about a DuckDB file. Safe from any thread: each call has its own connection and snapshot."""

    def __init__(self, database: Database, settings: SinkSettings) -> None:
        self._database = database
        self._settings = settings

    def books(self) -> list[Book]:
        """Return the books last written."""
        with self._database.reader() as connection:
            return load_books(connection)

    def read(
        self,
        topics: Sequence[str] = (),
        start_ms: int | None = None,
        stop_ms: int | None = None,
        where: Sequence[Condition] = (),
    ) -> Iterator[StoredEvent]:
        """Yield events in the order of time, then identity; see `Store.read`.

        DuckDB leaves out what `where` does not hold of, as far as it can tell.
        """
        with self._database.reader() as connection:
            yield from chosen(read_events(connection, topics, start_ms, stop_ms, beforehand(where)), where)

    def topics(self) -> list[TopicSummary]:
        """Return what topics there are, by name."""
        with self._database.reader() as connection:
            return read_topics(connection)

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
        """Aggregate a numeric field over steps of time, lines with the most events first; see `Reader.series`.

        A path that meets an array has no value.
        """
        with self._database.reader() as connection, limited(connection, self._settings.sql_timeout_s):
            return read_series(connection, topic, field, aggregate, start_s, stop_s, step_s, by)

    def recent(self, topics: Sequence[str], text: str, before_ms: int | None, limit: int) -> list[StoredEvent]:
        """Return the newest events, newest first; see `Reader.recent`.

        `text` is looked for in the topic and in the document as JSON, in upper and lower case alike.
        """
        conditions, values = between(None, before_ms)
        values["limit"] = max(0, limit)
        if topics:
            conditions.append(
                "(list_contains($topics, topic) OR list_bool_or([starts_with(topic, each) FOR each IN $subtrees]))"
            )
            values["topics"] = list(topics)
            values["subtrees"] = [each for each in topics if each.endswith(".")] or ["\0"]
        if text:
            conditions.append("(contains(topic, $text) OR contains(lower(data::JSON::VARCHAR), $text))")
            values["text"] = text.lower()
        # Documents become text after the limit, not for each event there is.
        with self._database.reader() as connection, limited(connection, self._settings.sql_timeout_s):
            rows = connection.execute(
                f"""
                SELECT {COLUMNS} FROM (
                    SELECT * FROM events WHERE {" AND ".join(conditions)} ORDER BY ts DESC, id DESC LIMIT $limit
                ) ORDER BY ts DESC, id DESC
                """,
                values,
            ).fetchall()
        return [event_of(row) for row in rows]

    def sql(self, query: str, *, max_rows: int, timeout_s: float, cancelled: Any = None) -> SqlResult:
        """Answer a read-only query; see `Reader.sql`.

        Times are ISO 8601 in UTC, binary values hexadecimal, NaN and the infinities texts, decimals floats.
        """
        with self._database.reader() as connection:
            return run_query(connection, query, max_rows, timeout_s, cancelled)

    def close(self) -> None:
        """End what still runs, and close. A second call does nothing."""
        self._database.close()


def open_read_only(location: str, settings: SinkSettings) -> DuckdbReader:
    """Open a file that no sink has open, for questions alone.

    Raises:
        StartError: there is none, or it cannot be opened.
    """
    path = resolve_path(location)
    if not Path(path).is_file():
        raise StartError(f"there is no store {path}; start one by `eventstorm up`, or name another by --store")
    return DuckdbReader(Database(path, settings.sql_memory, read_only=True), settings)
