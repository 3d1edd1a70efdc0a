"""DuckDB: the embedded store, one file that one process owns."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator, Sequence

import duckdb

from eventstorm.errors import StartError
from eventstorm_sinks.batch import Batch, Book, StoredEvent, StreamKey
from eventstorm_sinks.settings import SinkSettings
from eventstorm_sinks.stores import StoreUnavailable, TopicSummary
from eventstorm_sinks.stores.duckdb._database import Database, resolve_path
from eventstorm_sinks.stores.duckdb._reader import read_events, topic_summaries
from eventstorm_sinks.stores.duckdb._writer import load_books, load_marks, write_books, write_events, write_marks

__all__ = ["DuckdbStore"]

logger = logging.getLogger("eventstorm.duckdb")

# The disk is full, the memory used up, or DuckDB has stopped trusting itself after such an error. A commit that
# fails is a TransactionException whatever the reason.
_UNAVAILABLE = (
    duckdb.IOException,
    duckdb.OutOfMemoryException,
    duckdb.FatalException,
    duckdb.InternalException,
    duckdb.TransactionException,
)


class DuckdbStore:
    """Events in a table of a DuckDB file, for SQL. A `Store` and a `Reader`.

    The location is a path; the empty one is ``eventstorm/events.duckdb`` in the user's data folder.

    Columns of ``events``: ``id``, ``ts``, ``topic``, ``source`` (a STRUCT: ``source.host``), ``data`` (a VARIANT:
    ``data.http.route``), and ``bson``, which is NULL but for documents that JSON cannot hold; ``data`` has those as
    Extended JSON. VARIANT sorts the keys of an object, so a document comes back equal, but not always in its order.
    """

    def __init__(self, location: str, settings: SinkSettings) -> None:
        """Open the file, and make it if there is none.

        Raises:
            StartError: it cannot be opened; the message tells why and what to do.
        """
        self._settings = settings
        self._database = Database(resolve_path(location), settings.sql_memory)
        with self._database.reader() as connection:
            self._marks = load_marks(connection)
        self._writer: duckdb.DuckDBPyConnection | None = self._database.cursor()

    def write(self, batches: Sequence[Batch], books: Sequence[Book], forget: Sequence[StreamKey] = ()) -> None:
        """Write the events and their books in one transaction; see `Store.write`.

        What is there already is known by a mark for each stream, which goes when its books do.
        """
        try:
            connection = self._connection()
            with _transaction(connection):
                moved = write_events(connection, batches, self._marks)
                gone = set(forget)
                write_marks(connection, moved, gone - moved.keys())
                write_books(connection, books, gone)
        except _UNAVAILABLE as error:
            self._writer = None
            raise StoreUnavailable(f"{self._database.path}: {str(error).splitlines()[0]}") from error
        except StartError as error:
            raise StoreUnavailable(str(error)) from error
        for key in gone - moved.keys():
            self._marks.pop(key, None)
        self._marks.update(moved)

    def books(self) -> list[Book]:
        """Return the books last written."""
        with self._database.reader() as connection:
            return load_books(connection)

    def read(
        self, topics: Sequence[str] = (), start_ms: int | None = None, stop_ms: int | None = None
    ) -> Iterator[StoredEvent]:
        """Yield events in the order of time, then identity; see `Store.read`."""
        with self._database.reader() as connection:
            yield from read_events(connection, topics, start_ms, stop_ms)

    def maintain(self) -> None:
        """Nothing yet."""

    def close(self) -> None:
        """Write everything into the file itself, and close it. A second call does nothing."""
        if self._writer is not None:
            self._writer.close()
            self._writer = None
        self._database.close()

    def topics(self) -> list[TopicSummary]:
        """Return what topics there are, by name."""
        with self._database.reader() as connection:
            return topic_summaries(connection)

    def _connection(self) -> duckdb.DuckDBPyConnection:
        """Return the writing thread's connection; after an error, make sure that the database still works."""
        if self._writer is None:
            self._database.restore()
            self._writer = self._database.cursor()
        return self._writer


@contextlib.contextmanager
def _transaction(connection: duckdb.DuckDBPyConnection) -> Iterator[None]:
    connection.begin()
    try:
        yield
        connection.commit()
    except BaseException:
        # After a failed commit there is nothing to roll back.
        with contextlib.suppress(duckdb.Error):
            connection.rollback()
        raise
