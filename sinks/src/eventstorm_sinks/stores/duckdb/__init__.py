"""DuckDB: the embedded store, one file that one process owns."""

from __future__ import annotations

import contextlib
import logging
import re
import time
from collections.abc import Iterator, Sequence

import duckdb

from eventstorm.errors import StartError
from eventstorm_sinks.batch import Batch, Book, StreamKey
from eventstorm_sinks.settings import SinkSettings, parse_duration, parse_size
from eventstorm_sinks.stores import StoreUnavailable
from eventstorm_sinks.stores.duckdb._database import Database, resolve_path
from eventstorm_sinks.stores.duckdb._reader import DuckdbReader, open_read_only
from eventstorm_sinks.stores.duckdb._retention import checkpoint, remove_beyond_size, remove_older
from eventstorm_sinks.stores.duckdb._writer import load_marks, write_books, write_events, write_marks

__all__ = ["DuckdbReader", "DuckdbStore", "open_read_only"]

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
# What finds too little memory and is larger than this is at fault itself: trying it again would stop the
# store for good. In smaller parts it may pass.
_FITS_BYTES = 2**20
_OUT_OF_MEMORY = re.compile("failed to (pin|allocate) block|could not allocate block")
# As MongoDB's limit. Several of these at once are what a checkpoint must hold in memory.
_MAX_EVENT_BYTES = 16 * 2**20


class DuckdbStore(DuckdbReader):
    """Events in a table of a DuckDB file, for SQL. A `Store` and a `Reader`.

    The location is a path; the empty one is ``eventstorm/events.duckdb`` in the user's data folder.

    Columns of ``events``: ``id``, ``ts``, ``topic``, ``source`` (a STRUCT: ``source.host``), ``data`` (a VARIANT:
    ``data.http.route``), and ``bson``, which is NULL but for documents that JSON cannot hold; ``data`` has those as
    Extended JSON. VARIANT sorts the keys of an object, so a document comes back equal, but not always in its order.
    """

    @staticmethod
    def why_not_shared(location: str) -> str:
        """Return why one process writes all, and what to do instead."""
        return (
            "one process holds a DuckDB file; let them write to mongodb://…, or run a sink for some topics, "
            "--topic shop., and another for others, each with a DuckDB file of its own"
        )

    def __init__(self, location: str, settings: SinkSettings) -> None:
        """Open the file, and make it if there is none.

        Raises:
            StartError: it cannot be opened; the message tells why and what to do.
        """
        super().__init__(Database(resolve_path(location), settings.sql_memory), settings)
        with self._database.reader() as connection:
            self._marks = load_marks(connection)
        self._writer: duckdb.DuckDBPyConnection | None = self._database.cursor()

    @classmethod
    def open_to_read(cls, location: str, settings: SinkSettings) -> DuckdbReader:
        """Open a file that is there, for reading alone."""
        return open_read_only(location, settings)

    def write(self, batches: Sequence[Batch], books: Sequence[Book], forget: Sequence[StreamKey] = ()) -> None:
        """Write the events and their books in one transaction; see `Store.write`.

        What is there already is known by a mark for each stream, which goes when its books do.
        """
        gone = set(forget)
        moved = self._commit(batches, books, gone, beyond_marks=True)
        for key in gone - moved.keys():
            self._marks.pop(key, None)
        self._marks.update(moved)

    def insert(self, batches: Sequence[Batch], books: Sequence[Book]) -> None:
        """Write events that are not there yet, and books, in one transaction; see `Archive.insert`."""
        self._marks.update(self._commit(batches, books, set(), beyond_marks=False))

    def _commit(
        self, batches: Sequence[Batch], books: Sequence[Book], gone: set[StreamKey], *, beyond_marks: bool
    ) -> dict[StreamKey, int]:
        """Write events beyond the marks, or all; return the marks that moved."""
        for batch in batches:
            if len(largest := max(batch.events.documents, key=len, default=b"")) > _MAX_EVENT_BYTES:
                raise ValueError(f"an event of {len(largest)} bytes; DuckDB is given at most {_MAX_EVENT_BYTES}")
        try:
            with self._guarded() as connection, _transaction(connection):
                # Looked at only here: a file that had to be opened anew has other ones.
                moved = write_events(connection, batches, self._marks if beyond_marks else None)
                moved = {key: max(mark, self._marks.get(key, 0)) for key, mark in moved.items()}
                write_marks(connection, moved, gone - moved.keys())
                write_books(connection, books, gone)
        except StoreUnavailable as error:
            if isinstance(error.__cause__, duckdb.OutOfMemoryException):
                size_bytes = sum(len(event.data) for batch in batches for event in batch.events)
                if size_bytes > _FITS_BYTES:
                    raise ValueError(f"{size_bytes} bytes are too much for sink.sql_memory: {error}") from error
            raise
        return moved

    def maintain(self) -> None:
        """Remove events beyond what ``keep`` and ``keep_size`` allow. Books stay: what was stored, was stored."""
        keep_s = parse_duration(self._settings.keep, "sink.keep")
        keep_bytes = parse_size(self._settings.keep_size, "sink.keep_size")
        removed = 0
        with self._guarded() as connection:
            if keep_s is not None:
                removed += remove_older(connection, int((time.time() - keep_s) * 1000))
            if keep_bytes is not None:
                removed += remove_beyond_size(connection, keep_bytes, self._database.log_bytes())
            if removed:
                checkpoint(connection)
        if removed:
            logger.info("%s: removed %d events by age or size", self._database.path, removed)

    def close(self) -> None:
        """Write everything into the file itself, and close it. A second call does nothing."""
        if self._writer is not None:
            self._writer.close()
            self._writer = None
        super().close()

    @contextlib.contextmanager
    def _guarded(self) -> Iterator[duckdb.DuckDBPyConnection]:
        """Yield the writing thread's connection, and tell what passes from what does not.

        Raises:
            StoreUnavailable: the disk is full or the like; the next call makes sure that the database works.
        """
        try:
            if self._writer is None:
                self._database.restore()
                writer = self._database.cursor()
                # DuckDB may have committed what it then failed after: that is not to be written again.
                self._marks = load_marks(writer)
                self._writer = writer
            yield self._writer
        except _UNAVAILABLE as error:
            self._writer = None
            # Said by commits and checkpoints: a query that needs too much fails by itself, and not here.
            if _OUT_OF_MEMORY.search(str(error)):
                self._database.grow()
            raise StoreUnavailable(f"{self._database.path}: {str(error).splitlines()[0]}") from error
        except StartError as error:
            raise StoreUnavailable(str(error)) from error


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
