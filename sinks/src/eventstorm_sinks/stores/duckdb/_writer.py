"""Writing: events, books and marks of what is there, in one transaction."""

from __future__ import annotations

import struct
from array import array
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from collections.abc import Set as AbstractSet
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import duckdb

from eventstorm.wire import Events
from eventstorm_sinks.batch import Batch, Book, Source, StreamKey
from eventstorm_sinks.stores.duckdb._arrow import arrow_binaries, arrow_blobs, arrow_integers, arrow_table, arrow_texts
from eventstorm_sinks.stores.duckdb._documents import encode_documents

__all__ = ["MAX_TS_MS", "MIN_TS_MS", "load_books", "load_marks", "write_books", "write_events", "write_marks"]

# What one statement inserts: enough that its fixed cost does not count, little enough to be held several times over.
_MAX_ROWS = 10_000
_MAX_BYTES = 4 * 2**20

# One is being inserted and one is ready, so that DuckDB does not wait for the next.
_MOST_AHEAD = 2

# TIMESTAMPTZ holds microseconds in 64 bits, from the first whole day on.
MIN_TS_MS = -9_223_372_022_400_000
MAX_TS_MS = 9_223_372_036_854_774

# The origins are told once for many rows. LATERAL, since `$origins[number]` in place would copy all of them for each.
_INSERT_EVENTS = """
INSERT INTO events
SELECT origin.prefix || seq, make_timestamp_ms(ts_ms)::TIMESTAMPTZ,
    origin.topic, origin.source, document::{}, bson::BLOB
FROM arrow_rows, LATERAL (SELECT $origins[number] AS origin)
"""


@dataclass(slots=True)
class _Rows:
    """The columns of one statement."""

    origins: list[dict[str, Any]] = field(default_factory=list)
    documents: list[bytes] = field(default_factory=list)
    numbers: array[int] = field(default_factory=lambda: array("i"))
    """Of each row: which of the origins is its own, from 1 as SQL counts."""
    seqs: list[int] = field(default_factory=list)
    ts_ms: array[int] = field(default_factory=lambda: array("q"))
    size_bytes: int = 0

    def add(self, batch: Batch, events: Events) -> None:
        self.origins.append({"prefix": _stream(batch.key), "topic": batch.topic, "source": batch.source._asdict()})
        first_ms, last_ms = min(events.ts_ms), max(events.ts_ms)
        if first_ms < MIN_TS_MS or last_ms > MAX_TS_MS:
            raise ValueError(f"a time between {first_ms} and {last_ms} ms is more than a TIMESTAMPTZ holds")
        self.numbers += array("i", [len(self.origins)]) * len(events)
        self.seqs += events.seqs
        self.ts_ms.extend(events.ts_ms)
        self.documents += events.documents
        self.size_bytes += sum(map(len, events.documents))

    def is_full(self) -> bool:
        return len(self.seqs) >= _MAX_ROWS or self.size_bytes >= _MAX_BYTES

    def encode(self) -> object:
        """Return the columns as Arrow, which DuckDB reads where they lie.

        Raises:
            ValueError: a document is not BSON.
        """
        texts, kept = encode_documents(self.documents)
        return arrow_table(
            {
                "seq": arrow_binaries(struct.pack(f">{len(self.seqs)}q", *self.seqs), 8),
                "ts_ms": arrow_integers(self.ts_ms),
                "number": arrow_integers(self.numbers),
                "document": arrow_texts(texts),
                "bson": arrow_blobs(kept),
            }
        )


def write_events(
    connection: duckdb.DuckDBPyConnection,
    batches: Iterable[Batch],
    marks: dict[StreamKey, int] | None,
    data_type: str = "JSON::VARIANT",
) -> dict[StreamKey, int]:
    """Insert the events that are not there yet, and return the marks that moved.

    Args:
        connection: inside a transaction.
        batches: those of one stream in the order of their numbers.
        marks: of each stream, the number after the last that is stored. Not changed. None to insert all events.
        data_type: what the JSON of a document is made in the table.

    Raises:
        ValueError: an event cannot be stored.
    """
    moved: dict[StreamKey, int] = {}
    # DuckDB inserts some rows, without holding the interpreter, while the next ones are encoded.
    with ThreadPoolExecutor(1, "eventstorm-duckdb-insert") as pool:
        inserted: deque[Future[object]] = deque()
        for rows in _split(batches, marks, moved):
            inserted.append(pool.submit(_insert, connection, rows.encode(), rows.origins, data_type))
            if len(inserted) > _MOST_AHEAD:
                inserted.popleft().result()
        for each in inserted:
            each.result()
    return moved


def _insert(
    connection: duckdb.DuckDBPyConnection, table: object, origins: list[dict[str, Any]], data_type: str
) -> None:
    connection.register("arrow_rows", table)
    connection.execute(_INSERT_EVENTS.format(data_type), {"origins": origins})
    # Not after a failure: the transaction is then over, and with it the view.
    connection.unregister("arrow_rows")


def _split(
    batches: Iterable[Batch], marks: dict[StreamKey, int] | None, moved: dict[StreamKey, int]
) -> Iterator[_Rows]:
    rows = _Rows()
    for batch in batches:
        events = batch.events
        if marks is not None:
            events = events.since(moved.get(batch.key, marks.get(batch.key, 0)))
        if not events:
            continue
        moved[batch.key] = max(events.seqs[-1] + 1, moved.get(batch.key, 0))
        for part in _parts(events):
            rows.add(batch, part)
            if rows.is_full():
                yield rows
                rows = _Rows()
    if rows.seqs:
        yield rows


def _parts(events: Events) -> Iterator[Events]:
    """Cut a large batch into pieces that each make a statement of about the right size."""
    first, size_bytes = 0, 0
    if len(events) <= _MAX_ROWS and sum(map(len, events.documents)) <= _MAX_BYTES:
        yield events
        return
    for number, document in enumerate(events.documents):
        size_bytes += len(document)
        if number - first + 1 >= _MAX_ROWS or size_bytes >= _MAX_BYTES:
            yield events[first : number + 1]
            first, size_bytes = number + 1, 0
    if first < len(events):
        yield events[first:]


def _stream(key: StreamKey) -> bytes:
    """Return how a stream is written in the tables: as the identities of its events begin."""
    return key.source_id + key.tid.to_bytes(4, "big")


def write_marks(
    connection: duckdb.DuckDBPyConnection, moved: dict[StreamKey, int], forgotten: AbstractSet[StreamKey]
) -> None:
    """Replace the marks of some streams, and remove those of others."""
    _delete(connection, "streams", moved.keys() | forgotten)
    if moved:
        connection.execute(
            "INSERT INTO streams SELECT unnest($streams::BLOB[]), unnest($marks::BIGINT[])",
            {"streams": [_stream(key) for key in moved], "marks": list(moved.values())},
        )


def _delete(connection: duckdb.DuckDBPyConnection, table: str, keys: AbstractSet[StreamKey]) -> None:
    if keys:
        connection.execute(
            f"DELETE FROM {table} WHERE stream IN (SELECT unnest($streams::BLOB[]))",
            {"streams": [_stream(key) for key in keys]},
        )


def load_marks(connection: duckdb.DuckDBPyConnection) -> dict[StreamKey, int]:
    """Return of each stream the number after the last that is stored."""
    rows = connection.execute("SELECT stream, next_seq FROM streams").fetchall()
    return {StreamKey(stream[:12], int.from_bytes(stream[12:], "big")): mark for stream, mark in rows}


_BOOK_COLUMNS = (
    'topic, source, tid, first_seq, next_seq, "drop", stored, refused, overflowed, lost_source, lost_way, '
    "last_at_ms, closed"
)


def write_books(
    connection: duckdb.DuckDBPyConnection, books: Sequence[Book], forgotten: AbstractSet[StreamKey]
) -> None:
    """Replace the books of some streams, and remove those of others; of two of one stream the later one counts."""
    latest = {book.key: book for book in books}
    _delete(connection, "books", latest.keys() | forgotten)
    if not latest:
        return
    rows = [
        {
            "stream": _stream(key),
            "topic": book.topic,
            "source": book.source._asdict(),
            "tid": book.tid,
            "first_seq": book.first_seq,
            "next_seq": book.next_seq,
            "drop": book.drop,
            "stored": book.stored,
            "refused": book.refused,
            "overflowed": book.overflowed,
            "lost_source": book.lost_source,
            "lost_way": book.lost_way,
            "last_at_ms": book.last_at_ms,
            "closed": book.closed,
        }
        for key, book in latest.items()
    ]
    connection.execute(
        f"INSERT INTO books (stream, {_BOOK_COLUMNS}) SELECT book.* FROM (SELECT unnest($rows) AS book)", {"rows": rows}
    )


def load_books(connection: duckdb.DuckDBPyConnection) -> list[Book]:
    """Return all books."""
    rows = connection.execute(f"SELECT {_BOOK_COLUMNS} FROM books ORDER BY stream").fetchall()
    return [Book(topic, Source(**source), *rest) for topic, source, *rest in rows]
