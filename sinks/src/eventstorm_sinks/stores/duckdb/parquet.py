"""Events as Parquet files, to copy to and from: a folder that others read too, Spark and DuckDB among them.

Each insertion makes one file ``part-000001.parquet`` and so on, which is never changed. Its columns are those of the
table ``events`` of `DuckdbStore`, but ``data``, which is JSON text. ``_books.parquet`` has the books.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

import bson
import duckdb

from eventstorm.errors import EventstormError, StartError
from eventstorm_sinks.batch import Batch, Book, StoredEvent
from eventstorm_sinks.settings import SinkSettings, parse_size
from eventstorm_sinks.stores import StoreUnavailable, TopicSummary
from eventstorm_sinks.stores._files import lock_file, sync_folder
from eventstorm_sinks.stores.duckdb._database import BOOKS_TABLE
from eventstorm_sinks.stores.duckdb._events import read_events, read_topics
from eventstorm_sinks.stores.duckdb._writer import load_books, write_books, write_events
from eventstorm_sinks.stores.where import Condition, chosen

__all__ = ["ParquetFolder"]

_STAGE = f"""
CREATE TABLE events (
    id BLOB, ts TIMESTAMPTZ, topic VARCHAR,
    source STRUCT(id BLOB, host VARCHAR, service VARCHAR, pid INTEGER), data JSON, bson BLOB
);
{BOOKS_TABLE}
"""
_BOOKS_NAME, _LOCK_NAME, _UNFINISHED = "_books.parquet", "_lock", "_unfinished-"
_PART = re.compile(r"part-(\d{6,})\.parquet")
_COLUMNS = {
    "id": ["BLOB"],
    "ts": ["TIMESTAMP WITH TIME ZONE"],
    "topic": ["VARCHAR"],
    "source": ["STRUCT(id BLOB, host VARCHAR, service VARCHAR, pid INTEGER)"],
    "data": ["JSON", "VARCHAR"],
    "bson": ["BLOB"],
}
_THREADS = 2


class ParquetFiles:
    """A folder of Parquet files, or one such file, to read. A `Readable`."""

    def __init__(self, location: str, settings: SinkSettings) -> None:
        """Look whether they are there.

        Raises:
            StartError: they are not.
        """
        self._path, self._name = Path(location), f"parquet:{location}"
        self._memory_bytes = int(parse_size(settings.sql_memory, "sink.sql_memory") or 0)
        self._look()

    def _look(self) -> None:
        if not self._path.exists():
            raise StartError(f"{self._name}: there is no such folder or file")
        if not self._files() and not (self._path / _LOCK_NAME).exists():
            raise StartError(f"{self._name}: there is no file *.parquet in it")

    def books(self) -> list[Book]:
        """Return the books last written."""
        path = self._path / _BOOKS_NAME
        if not path.is_file():
            return []
        with self._reading() as connection:
            connection.execute(f"CREATE VIEW books AS FROM read_parquet({_listed([path])})")
            return load_books(connection)

    def read(
        self,
        topics: Sequence[str] = (),
        start_ms: int | None = None,
        stop_ms: int | None = None,
        where: Sequence[Condition] = (),
    ) -> Iterator[StoredEvent]:
        """Yield events in the order of time, then identity; see `Readable.read`."""
        with self._reading() as connection:
            if self._view(connection):
                yield from chosen(read_events(connection, topics, start_ms, stop_ms), where)

    def topics(self) -> list[TopicSummary]:
        """Return what topics there are, by name."""
        with self._reading() as connection:
            return read_topics(connection) if self._view(connection) else []

    def close(self) -> None:
        """Do nothing: files are open while they are read."""

    def _view(self, connection: duckdb.DuckDBPyConnection) -> bool:
        """Make the view ``events`` of all files; tell whether there are any."""
        files = self._files()
        if files:
            connection.execute(f"CREATE VIEW events AS FROM read_parquet({_listed(files)}, union_by_name = true)")
            there = {name: kind for name, kind, *_ in connection.execute("DESCRIBE events").fetchall()}
            for name, kinds in _COLUMNS.items():
                if there.get(name) not in kinds:
                    found = f"is {there[name][:80]}" if name in there else "is missing"
                    raise EventstormError(
                        f"{self._name}: no events: the column {name!r} {found}, not {' or '.join(kinds)}; name what "
                        "`eventstorm copy` wrote"
                    )
        return bool(files)

    @contextlib.contextmanager
    def _reading(self) -> Iterator[duckdb.DuckDBPyConnection]:
        try:
            with self._connect() as connection:
                yield connection
        except duckdb.Error as error:
            raise EventstormError(f"{self._name}: {str(error).splitlines()[0]}") from error
        except (ValueError, TypeError, bson.InvalidBSON) as error:
            raise EventstormError(f"{self._name}: an event that cannot be read: {str(error)[:200]}") from error

    def _connect(self) -> duckdb.DuckDBPyConnection:
        config: dict[str, str | bool | int | float | list[str]] = {
            "threads": _THREADS,
            "memory_limit": f"{self._memory_bytes}B",
            "temp_directory": "",
            "python_enable_replacements": False,
            "autoinstall_known_extensions": False,
            "autoload_known_extensions": False,
        }
        connection = duckdb.connect(":memory:", config=config)
        # Each question about a span of time looks into all files.
        connection.execute("SET TimeZone = 'UTC'; SET parquet_metadata_cache = true")
        return connection

    def _files(self) -> list[Path]:
        if self._path.is_file():
            return [self._path]
        return sorted(each for each in self._path.glob("*.parquet") if not each.name.startswith("_"))


class ParquetFolder(ParquetFiles):
    """A folder of Parquet files to copy into. An `Archive`."""

    def __init__(self, location: str, settings: SinkSettings) -> None:
        """Open the folder, and make it if there is none.

        Raises:
            StartError: it cannot be written, or is a file.
        """
        if not location:
            raise StartError("parquet: names no folder; write one as parquet:archive, or this one as parquet:.")
        self._locked: BinaryIO | None = None
        super().__init__(location, settings)

    @classmethod
    def open_to_read(cls, location: str, settings: SinkSettings) -> ParquetFiles:
        """Open a folder or a file that is there, for reading alone."""
        return ParquetFiles(location, settings)

    def _look(self) -> None:
        if self._path.is_file():
            raise StartError(f"{self._name} is a file, which is never changed; name a folder to copy into")
        try:
            self._path.mkdir(parents=True, exist_ok=True)
            self._locked = lock_file(self._path / _LOCK_NAME, self._name)
            for left in self._path.glob(f"{_UNFINISHED}*"):
                left.unlink()
        except OSError as error:
            raise StartError(f"{self._name}: cannot write there: {error.strerror}") from None

    def insert(self, batches: Sequence[Batch], books: Sequence[Book]) -> None:
        """Write the events into a file of their own, and the books; see `Archive.insert`."""
        try:
            with self._connect() as connection:
                connection.execute(_STAGE)
                if any(batch.events for batch in batches):
                    write_events(connection, batches, None, "JSON")
                    self._put("FROM events ORDER BY ts, id", self._next_name(), connection)
                if books:
                    there = {book.key: book for book in (*self.books(), *books)}
                    write_books(connection, list(there.values()), set())
                    self._put("FROM books ORDER BY stream", _BOOKS_NAME, connection)
        except (OSError, duckdb.IOException, duckdb.OutOfMemoryException) as error:
            raise StoreUnavailable(f"{self._name}: {str(error).splitlines()[0]}") from error

    def _put(self, query: str, name: str, connection: duckdb.DuckDBPyConnection) -> None:
        """Make a file of a query's rows: as a whole, or not at all."""
        unfinished = self._path / f"{_UNFINISHED}{name}"
        connection.execute(f"COPY ({query}) TO {_quoted(str(unfinished))} (FORMAT parquet, COMPRESSION zstd)")
        with unfinished.open("rb") as file:
            os.fsync(file.fileno())
        unfinished.replace(self._path / name)
        sync_folder(self._path)

    def _next_name(self) -> str:
        numbers = [int(found[1]) for each in self._files() if (found := _PART.fullmatch(each.name))]
        return f"part-{max(numbers, default=0) + 1:06}.parquet"

    def close(self) -> None:
        """Let others write there. A second call does nothing."""
        if self._locked is not None:
            self._locked.close()
            self._locked = None


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def _listed(paths: Sequence[Path]) -> str:
    """Return a list for DuckDB, which would take signs in names for patterns."""
    return "[" + ", ".join(_quoted(re.sub(r"([*?\[])", r"[\1]", str(each))) for each in paths) + "]"
