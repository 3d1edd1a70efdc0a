"""Cassandra: events as rows of a cluster, ``cassandra://host1,host2/keyspace.table``.

The store is made without asking the cluster, which may be away: what is received meanwhile waits in the sink's queue.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence

from eventstorm.errors import StartError
from eventstorm_sinks.batch import Batch, Book, StreamKey
from eventstorm_sinks.settings import SinkSettings, parse_duration
from eventstorm_sinks.stores import StoreUnavailable
from eventstorm_sinks.stores.cassandra._buckets import Buckets
from eventstorm_sinks.stores.cassandra._columns import parse_columns
from eventstorm_sinks.stores.cassandra._connect import Connection, Place, guarded, may_be_at_fault
from eventstorm_sinks.stores.cassandra._journal import Intent, Journal
from eventstorm_sinks.stores.cassandra._layout import Bucket, Partition, layouts_of
from eventstorm_sinks.stores.cassandra._reader import CassandraReader
from eventstorm_sinks.stores.cassandra._requests import run_all
from eventstorm_sinks.stores.cassandra._rows import Insertions, Part
from eventstorm_sinks.stores.cassandra._schema import MAX_KEEP_S, Schema

__all__ = ["CassandraReader", "CassandraStore"]

logger = logging.getLogger("eventstorm.cassandra")

# An error that may be about what is inserted, and comes so often while everything else works, is.
_MOST_FAULTS = 3
_SINK = "1/1"
"""Which sink's books these are, of those that share the table."""


class CassandraStore(CassandraReader):
    """Events as rows ``topic, bucket, shard, ts, id, host, service, pid, data, bson``. A `Store` and a `Reader`.

    The user's document is JSON in ``data``; where JSON does not hold all of it, BSON in ``bson`` too. Beside the table
    lie two others: ``_buckets`` tells which partitions there are, and ``_books`` holds the books and the journal that
    keeps them in step, see `eventstorm_sinks.stores.cassandra._journal`.
    """

    def __init__(self, location: str, settings: SinkSettings) -> None:
        """Read the URL.

        Raises:
            StartError: it is not understood; the message tells why, without the password.
        """
        connection = Connection(Place.of(f"cassandra:{location}"))
        keep_s = parse_duration(settings.keep, "sink.keep")
        if keep_s is not None and keep_s > MAX_KEEP_S:
            raise StartError(f"sink.keep: {settings.keep!r}: Cassandra keeps events for 20 years at most, or for ever")
        columns = parse_columns(settings.cassandra_columns)
        self._schema = Schema(connection, columns, keep_s)
        super().__init__(connection, self._schema, settings)
        self._layouts = layouts_of(settings.cassandra_layout)
        self._columns = columns
        self._buckets = Buckets(connection, self._schema, _SINK)
        self._journal = Journal(connection, self._schema, self._buckets, _SINK)
        self._faults = 0
        if settings.keep_size:
            logger.warning("%s: keep_size is not kept: Cassandra removes by age alone; set keep", connection.name)

    def write(self, batches: Sequence[Batch], books: Sequence[Book], forget: Sequence[StreamKey] = ()) -> None:
        """Write the events and their books as if in one transaction; see `Store.write` and the journal."""
        try:
            with guarded(self._connection.name):
                self._schema.prepare()
                self._journal.open()
                parts, intents, marks = self._plan(batches)
                counts = None
                if parts:
                    self._buckets.open(bucket for bucket, _ in parts)
                    self._journal.intend(intents)
                    try:
                        self._insert([part for _, part in parts])
                    except Exception as error:
                        self._blame(error)
                    counts = self._buckets.encode(self._buckets.totals(parts))
                self._journal.commit(marks, books, forget, counts)
        except StoreUnavailable:
            self._journal.distrust()
            self._schema.distrust()
            raise
        self._faults = 0

    def _plan(self, batches: Sequence[Batch]) -> tuple[list[tuple[Bucket, Part]], list[Intent], dict[StreamKey, int]]:
        """Return what is not stored yet: where it goes, what to say of it before, and the marks after it."""
        parts: list[tuple[Bucket, Part]] = []
        intents: list[Intent] = []
        marks: dict[StreamKey, int] = {}
        for batch in batches:
            events = batch.events.since(marks.get(batch.key) or self._journal.marks.get(batch.key, 0))
            if not events:
                continue
            layout = self._layouts.of(batch.topic)
            intents.append(Intent.of(batch, events, layout))
            for bucket_ms, shard, some in layout.parts(batch.key, events):
                bucket = Bucket(batch.topic, bucket_ms, *layout)
                parts.append((bucket, Part(Partition(batch.topic, bucket_ms, shard), batch, some)))
            marks[batch.key] = events.seqs[-1] + 1
        return parts, intents, marks

    def _insert(self, parts: list[Part]) -> None:
        insertions = Insertions(self._schema.statement("insert"), self._columns, self._schema.keep_s)
        run_all(self._connection.session(), insertions.of(parts), self._settings.cassandra_requests)

    def _blame(self, error: Exception) -> None:
        """Raise what an insertion's error means: the cluster is away, or there is something in the events.

        Raises:
            StoreUnavailable: try the same again; what has been inserted is found then.
            ValueError: an event is at fault; nothing is left of what has been inserted.
            Exception: the cluster is away.
        """
        if not may_be_at_fault(error):
            raise error
        if not isinstance(error, ValueError):
            # A table that was altered gives the same errors: it is put right before the next attempt.
            self._faults += 1
            if self._faults < _MOST_FAULTS:
                text = f"{type(error).__name__}: {str(error)[:300]}"
                raise StoreUnavailable(f"{self._connection.name}: {text}") from error
        self._faults = 0
        self._journal.undo()
        raise ValueError(str(error)[:500]) from error

    def books(self) -> list[Book]:
        """Return the books last written; makes the tables, and undoes what an earlier sink left unfinished.

        Raises:
            StoreUnavailable: the cluster is away, or what is there does not fit.
        """
        with guarded(self._connection.name):
            self._schema.prepare()
            self._journal.open()
            return self._journal.books()

    def maintain(self) -> None:
        """Do nothing: the cluster removes old events by itself."""
