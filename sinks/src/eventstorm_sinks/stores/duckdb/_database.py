"""The file: opening it, its schema, and connections to it."""

from __future__ import annotations

import contextlib
import logging
import os
import re
import threading
from collections.abc import Iterator
from pathlib import Path

import duckdb
import platformdirs

from eventstorm.errors import EventstormError, StartError
from eventstorm_sinks.settings import parse_size
from eventstorm_sinks.stores import StoreUnavailable

__all__ = ["BOOKS_TABLE", "Database", "resolve_path"]

logger = logging.getLogger("eventstorm.duckdb")

BOOKS_TABLE = """
CREATE TABLE IF NOT EXISTS books (
    stream BLOB, topic VARCHAR, source STRUCT(id BLOB, host VARCHAR, service VARCHAR, pid INTEGER), tid INTEGER,
    first_seq BIGINT, next_seq BIGINT, "drop" BIGINT, stored BIGINT, refused BIGINT, overflowed BIGINT,
    lost_source BIGINT, lost_way BIGINT, last_at_ms BIGINT, closed BOOLEAN
);
"""
_SCHEMA = f"""
CREATE TABLE IF NOT EXISTS events (
    id BLOB, ts TIMESTAMPTZ, topic VARCHAR,
    source STRUCT(id BLOB, host VARCHAR, service VARCHAR, pid INTEGER),
    data VARIANT, bson BLOB
);
{BOOKS_TABLE}
CREATE TABLE IF NOT EXISTS streams (stream BLOB, next_seq BIGINT);
"""
# What is not as we make it is another program's, or another version's: there every event would be refused.
_CHECK = """
SELECT id, ts, topic, source, data, bson FROM events LIMIT 0;
SELECT stream, topic, source, tid, closed FROM books LIMIT 0;
SELECT stream, next_seq FROM streams LIMIT 0;
"""
# Queries come from people: nothing but this file is to be read or written through them.
_LOCK_DOWN = """
SET GLOBAL TimeZone = 'UTC';
SET GLOBAL enable_external_access = false;
SET GLOBAL lock_configuration = true;
"""
# DuckDB's own 16 MB would write the table's unfinished last row group again every second or so under load. Replaying a
# log of this size takes a few seconds, after a crash only.
_CHECKPOINT_BYTES = 64 * 10**6
# A checkpoint has to hold the table's unfinished row group in memory, up to 122,880 events: with many events of a MiB
# each that is more than is set. It is then given more, up to this part of the machine's memory.
_MOST_OF_MEMORY = 0.5
# Several queries at once share these, and emitting programs run on the same machine.
_MAX_THREADS = 4


def resolve_path(location: str) -> Path:
    """Return the file that a location names; the empty one is the user's own."""
    return Path(location) if location else platformdirs.user_data_path("eventstorm", appauthor=False) / "events.duckdb"


class Database:
    """An open file. Connections of any number of threads share it."""

    def __init__(self, path: Path, memory: str, *, read_only: bool = False) -> None:
        """Open the file, and make it and its tables if need be.

        Raises:
            StartError: it cannot be opened; the message tells what to do.
        """
        self.path = path
        self._read_only = read_only
        self._memory_bytes = int(parse_size(memory, "sink.sql_memory") or 0)
        self._config: dict[str, str | bool | int | float | list[str]] = {
            "threads": max(1, min(_MAX_THREADS, (os.cpu_count() or 1) // 2)),
            "memory_limit": f"{self._memory_bytes}B",
            "temp_directory": f"{path}.tmp",
            "max_temp_directory_size": "1GB",
            "checkpoint_threshold": f"{_CHECKPOINT_BYTES}B",
            # The first with VARIANT: DuckDB 1.5, which Python 3.10 has, and later ones open the same files.
            "storage_compatibility_version": "v1.5.0",
            "python_enable_replacements": False,
            "autoinstall_known_extensions": False,
            "autoload_known_extensions": False,
        }
        self._closed = self._outdated = False
        self._changed = threading.Condition()
        self._readers: set[duckdb.DuckDBPyConnection] = set()
        self._root: duckdb.DuckDBPyConnection | None = self._open()

    @contextlib.contextmanager
    def reader(self) -> Iterator[duckdb.DuckDBPyConnection]:
        """Yield a connection of its own, inside a transaction that cannot write.

        Raises:
            EventstormError: the database is closed.
            StoreUnavailable: DuckDB failed, for want of memory, say.
        """
        with self._changed:
            connection = self.cursor()
            self._readers.add(connection)
        try:
            connection.execute("BEGIN TRANSACTION READ ONLY")
            yield connection
        except duckdb.InterruptException as error:
            raise EventstormError(f"{self.path}: cut off, since the store closes") from error
        except duckdb.Error as error:
            raise StoreUnavailable(f"{self.path}: {str(error).splitlines()[0]}") from error
        finally:
            connection.close()
            with self._changed:
                self._readers.remove(connection)
                self._changed.notify_all()

    def cursor(self) -> duckdb.DuckDBPyConnection:
        """Return a connection of its own to write with.

        Raises:
            EventstormError: the database is closed.
        """
        root = self._root
        if root is None:
            raise EventstormError(f"{self.path} is closed")
        return root.cursor()

    def restore(self) -> None:
        """Open the file again if DuckDB refuses to go on with it, as after some errors in the middle of a commit.

        Raises:
            StartError: it cannot be opened now; further calls try again.
            EventstormError: it is closed for good.
        """
        if self._closed:
            raise EventstormError(f"{self.path} is closed")
        if self._root is not None and not self._outdated:
            with contextlib.suppress(duckdb.Error), self._root.cursor() as probe:
                probe.execute("SELECT count(*) FROM streams").fetchall()
                return
        self._shut()
        self._root, self._outdated = self._open(), False

    def grow(self) -> None:
        """Allow twice the memory, within bounds, from the next `restore` on."""
        most_bytes = int(_MOST_OF_MEMORY * os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
        if self._memory_bytes >= most_bytes:
            return
        self._memory_bytes = min(2 * self._memory_bytes, most_bytes)
        self._config["memory_limit"] = f"{self._memory_bytes}B"
        self._outdated = True
        logger.warning("%s: large events need more memory: %d bytes", self.path, self._memory_bytes)

    def log_bytes(self) -> int:
        """Return the size of the write-ahead log."""
        log_path = Path(f"{self.path}.wal")
        return log_path.stat().st_size if log_path.exists() else 0

    def close(self) -> None:
        """End the queries that still run, write the log into the file, and close it. A second call does nothing."""
        self._closed = True
        self._shut()

    def _shut(self) -> None:
        with self._changed:
            root, self._root = self._root, None
            while self._readers:
                for each in self._readers:
                    each.interrupt()
                # Interrupted again and again, since one that is between two queries does not notice.
                self._changed.wait(0.05)
        if root is not None:
            root.close()

    def _open(self) -> duckdb.DuckDBPyConnection:
        try:
            if not self._read_only:
                self.path.parent.mkdir(parents=True, exist_ok=True)
            left_bytes = self.log_bytes()
            root = self._connect()
        except (OSError, duckdb.Error) as error:
            raise StartError(_explain(self.path, error)) from error
        try:
            root.execute(_LOCK_DOWN)
            if not self._read_only:
                root.execute(f"BEGIN; {_SCHEMA}; {_CHECK}; COMMIT")
                if left_bytes:
                    self._tell_recovered(root, left_bytes)
        except duckdb.Error as error:
            root.close()
            raise StartError(_explain(self.path, error)) from error
        return root

    def _connect(self) -> duckdb.DuckDBPyConnection:
        while True:
            memory_bytes = self._memory_bytes
            try:
                return duckdb.connect(str(self.path), read_only=self._read_only, config=self._config)
            except duckdb.OutOfMemoryException:
                self.grow()
                if self._memory_bytes == memory_bytes:
                    raise

    def _tell_recovered(self, root: duckdb.DuckDBPyConnection, left_bytes: int) -> None:
        events, last = root.execute("SELECT count(*), max(ts)::VARCHAR FROM events").fetchall()[0]
        logger.warning(
            "%s was not closed: took over %d bytes of commits from %s.wal; it now holds %d events%s",
            self.path,
            left_bytes,
            self.path.name,
            events,
            f", the last of {last}" if last else "",
        )


def _explain(path: Path, error: Exception) -> str:
    """Say for people why the file cannot be opened, and what to do."""
    text = str(error)
    if isinstance(error, OSError):
        return f"{path}: cannot make its folder: {error.strerror}; give another place as duckdb:PATH"
    if holder := re.search(r"held in (.+?) \(PID (\d+)\)", text):
        return (
            f"{path} is in use by process {holder[2]} ({holder[1]}), and only one may have it open: stop that one, "
            f"give this one another file as duckdb:PATH, or ask a running server by `eventstorm sql`"
        )
    if "not a valid DuckDB database" in text or isinstance(
        error, (duckdb.SerializationException, duckdb.FatalException, duckdb.InternalException)
    ):
        return (
            f"{path} is damaged or not a file of DuckDB ({text.splitlines()[0]}); nothing was changed: move it and, if "
            f"there is one, {path.name}.wal to another place to start with an empty one, or restore them from a backup"
        )
    if isinstance(error, duckdb.BinderException):
        return (
            f"{path} has tables that are not those of this version ({text.splitlines()[0]}); nothing was changed: give "
            "another file as duckdb:PATH"
        )
    return f"{path}: cannot open it: {text.splitlines()[0]}"
