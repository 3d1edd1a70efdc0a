"""Reading: events back as they came, and answers about them. Safe from any thread, as the driver's session is."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any

from eventstorm.errors import EventstormError
from eventstorm_sinks.batch import Book, StoredEvent
from eventstorm_sinks.live_values import decode, dig, number
from eventstorm_sinks.settings import SinkSettings
from eventstorm_sinks.stores import Series, SqlResult, TopicSummary
from eventstorm_sinks.stores._fold import NameCounter, SeriesFold, check_series, line_name
from eventstorm_sinks.stores._json import read_document
from eventstorm_sinks.stores._search import containing
from eventstorm_sinks.stores.cassandra._connect import Connection, guarded
from eventstorm_sinks.stores.cassandra._journal import book_of
from eventstorm_sinks.stores.cassandra._rows import decode_row
from eventstorm_sinks.stores.cassandra._scan import Row, Scan
from eventstorm_sinks.stores.cassandra._schema import Schema
from eventstorm_sinks.stores.cassandra._shares import all_accounts
from eventstorm_sinks.stores.where import Condition, chosen

__all__ = ["CassandraReader"]

_MAX_S = 9 * 10**12
# So rarely the clock is looked at.
_EVENTS_A_LOOK = 1_000


class CassandraReader:
    """Answers questions about a table."""

    def __init__(self, connection: Connection, schema: Schema, settings: SinkSettings) -> None:
        self._connection, self._schema, self._settings = connection, schema, settings

    def read(
        self,
        topics: Sequence[str] = (),
        start_ms: int | None = None,
        stop_ms: int | None = None,
        where: Sequence[Condition] = (),
    ) -> Iterator[StoredEvent]:
        """Yield events in the order of time, then identity; see `Store.read`.

        Some pages of rows are in memory, of each topic and shard one.
        """
        with guarded(self._connection.name):
            self._schema.prepare()
            asked = list(dict.fromkeys(topics)) or self._topics()
            rows = Scan(self._connection, self._schema, asked, start_ms, stop_ms).ordered()
            yield from chosen(self._events(rows), where)

    def books(self) -> list[Book]:
        """Return the books last written, of whoever wrote, without disturbing a sink that does."""
        found: dict[str, list[Book]] = {}
        with guarded(self._connection.name):
            session = self._schema.prepare()
            for sink, _ in session.execute(self._schema.statement("committed").bind(())):
                rows = session.execute(self._schema.statement("streams").bind((sink,)))
                found[sink] = [book_of(row) for row in rows if row[0] is not None and row[2] is not None]
        return all_accounts(found)

    def topics(self) -> list[TopicSummary]:
        """Return what topics there are, by name: from the buckets' counts, without a look at the events.

        With ``keep``, events of the oldest bucket still count for as long as some of it are kept.
        """
        keep_s = self._schema.keep_s
        start_ms = None if keep_s is None else int((time.time() - keep_s) * 1000)
        found = []
        with guarded(self._connection.name):
            self._schema.prepare()
            for topic in sorted(self._topics()):
                parts = list(Scan(self._connection, self._schema, [topic], start_ms).summaries())
                if parts:
                    events, first_ms, last_ms = zip(*parts, strict=True)
                    found.append(TopicSummary(topic, sum(events), min(first_ms), max(last_ms)))
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
        """Aggregate a numeric field over steps of time, lines with the most events first; see `Reader.series`.

        The events are read and folded here, in bounded memory; percentiles are within 1 %. A path that meets an array
        has no value.
        """
        check_series(field, aggregate, start_s, step_s, by)
        stop_at_s = time.monotonic() + self._settings.sql_timeout_s
        start_ms = max(start_s, -_MAX_S) * 1000
        stop_ms = min(max(stop_s, -_MAX_S), _MAX_S) * 1000
        with guarded(self._connection.name):
            self._schema.prepare()
            asked = [topic] if topic else self._topics()
            names = [""]
            if by is not None:
                counter = NameCounter()
                scan = Scan(self._connection, self._schema, asked, start_ms, stop_ms, by not in _HEADS)
                for each, row in _until(stop_at_s, self._settings.sql_timeout_s, scan.rows()):
                    counter.add(_name(each, row, by))
                names = counter.commonest()
            fold = SeriesFold(aggregate, start_s, step_s, names)
            with_data = field is not None or (by is not None and by not in _HEADS)
            scan = Scan(self._connection, self._schema, asked, start_ms, stop_ms, with_data)
            for each, row in _until(stop_at_s, self._settings.sql_timeout_s, scan.rows()):
                value = 1.0 if field is None else number(dig(_document(row), field))
                fold.add("" if by is None else _name(each, row, by), row[1], value)
        return fold.series()

    def recent(self, topics: Sequence[str], text: str, before_ms: int | None, limit: int) -> list[StoredEvent]:
        """Return the newest events, newest first; see `Reader.recent`.

        `text` is looked for in the topic and in the document as JSON, in upper and lower case alike. For that events
        are read, the newest first, until there are enough.
        """
        if limit <= 0:
            return []
        with guarded(self._connection.name):
            self._schema.prepare()
            asked = [each for each in topics if not each.endswith(".")]
            if not topics or len(asked) < len(topics):
                asked = [
                    each
                    for each in self._topics()
                    if not topics or each in asked or each.startswith(tuple(one for one in topics if one.endswith(".")))
                ]
            scan = Scan(self._connection, self._schema, sorted(set(asked)), None, before_ms)
            events = self._events(scan.ordered(newest=True))
            return list(islice(containing(events, text, self._settings.sql_timeout_s), limit))

    def _events(self, rows: Iterator[tuple[str, Row]]) -> Iterator[StoredEvent]:
        return (event for topic, row in rows if (event := decode_row(topic, row)) is not None)

    def _topics(self) -> list[str]:
        return [row[0] for row in self._connection.session().execute(self._schema.statement("topics").bind(()))]

    def sql(self, query: str, *, max_rows: int, timeout_s: float, cancelled: Any = None) -> SqlResult:
        """Refuse: Cassandra does not speak SQL."""
        raise EventstormError(
            f"{self._connection.name} does not answer SQL; ask it by cqlsh or Spark, or store into DuckDB too: "
            "--store duckdb:events.duckdb"
        )

    def close(self) -> None:
        """Close the connections. A second call does nothing."""
        self._connection.close()


# What lines may be split by that is beside the document, and how it is found.
_HEADS: dict[str, Any] = {
    "topic": lambda topic, row: topic,
    "source.id": lambda topic, row: row[0][:12].hex(),
    "source.host": lambda topic, row: row[2],
    "source.service": lambda topic, row: row[3],
    "source.pid": lambda topic, row: row[4],
}


def _name(topic: str, row: Row, by: str) -> str:
    return line_name(_HEADS[by](topic, row) if by in _HEADS else dig(_document(row), by))


def _document(row: Row) -> dict[str, Any]:
    data, raw = row[6:]
    return (decode(bytes(raw)) if raw is not None else read_document(data)) or {}


def _until(stop_at_s: float, timeout_s: float, rows: Iterator[tuple[str, Row]]) -> Iterator[tuple[str, Row]]:
    """Yield rows until the time is up.

    Raises:
        EventstormError: it is.
    """
    for number_of_it, row in enumerate(rows):
        if number_of_it % _EVENTS_A_LOOK == 0 and time.monotonic() > stop_at_s:
            raise EventstormError(f"the question took more than {timeout_s:g} s: ask for less time, or one topic")
        yield row
