"""Inserting: parts of events as many requests at a time, journaled, and what it means when some are not taken."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Mapping, Sequence

from eventstorm.errors import StartError
from eventstorm.wire import Events
from eventstorm_sinks.batch import Batch, Book, StreamKey
from eventstorm_sinks.settings import SinkSettings, parse_duration
from eventstorm_sinks.share import Share
from eventstorm_sinks.stores import StoreUnavailable
from eventstorm_sinks.stores.cassandra._columns import parse_columns
from eventstorm_sinks.stores.cassandra._connect import Connection, Place, guarded, may_be_at_fault
from eventstorm_sinks.stores.cassandra._journal import Intent, Journal
from eventstorm_sinks.stores.cassandra._layout import Bucket, Partition, layouts_of
from eventstorm_sinks.stores.cassandra._reader import CassandraReader
from eventstorm_sinks.stores.cassandra._requests import run_all
from eventstorm_sinks.stores.cassandra._rows import Insertions, Part
from eventstorm_sinks.stores.cassandra._schema import MAX_KEEP_S, Schema

__all__ = ["CassandraArchive"]

# An error that may be about what is inserted, and comes so often while everything else works, is.
_MOST_FAULTS = 3


class CassandraArchive(CassandraReader):
    """What events are copied into, beside a sink that writes: the books of copying are its own. An `Archive`."""

    def __init__(self, location: str, settings: SinkSettings, share: Share | None = None) -> None:
        """Read the URL; `share` is what a sink writes.

        Raises:
            StartError: it is not understood; the message tells why, without the password.
        """
        connection = Connection(Place.of(f"cassandra:{location}"))
        keep_s = parse_duration(settings.keep, "sink.keep")
        if keep_s is not None and keep_s > MAX_KEEP_S:
            raise StartError(f"sink.keep: {settings.keep!r}: Cassandra keeps events for 20 years at most, or for ever")
        columns = parse_columns(settings.cassandra_columns)
        is_first = share is None or share.number == 1
        self._schema = Schema(connection, columns, keep_s, is_first=is_first)
        super().__init__(connection, self._schema, settings)
        self._layouts = layouts_of(settings.cassandra_layout)
        self._columns = columns
        self._journal = Journal(connection, self._schema, share)
        self._buckets = self._journal.buckets
        self._faults = 0

    def insert(self, batches: Sequence[Batch], books: Sequence[Book]) -> None:
        """Insert events, whatever their numbers, and replace books; see `Archive.insert`."""
        with self._connected():
            self._write([(batch, batch.events) for batch in batches if batch.events], {}, books, ())

    @contextlib.contextmanager
    def _connected(self) -> Iterator[None]:
        """Have the tables and the journal ready for a write, and look again what is there if it fails."""
        try:
            with guarded(self._connection.name):
                self._schema.prepare()
                self._journal.open()
                yield
        except StoreUnavailable:
            self._journal.distrust()
            self._schema.distrust()
            self._connection.give_up_if_lost()
            raise
        self._faults = 0

    def _write(
        self,
        events: Sequence[tuple[Batch, Events]],
        marks: Mapping[StreamKey, int],
        books: Sequence[Book],
        forget: Iterable[StreamKey],
    ) -> None:
        """Write some events of batches, and books, as if in one transaction."""
        parts: list[tuple[Bucket, Part]] = []
        intents: list[Intent] = []
        for batch, some in events:
            layout = self._layouts.of(batch.topic)
            intents.append(Intent.of(batch, some, layout))
            for bucket_ms, shard, there in layout.parts(batch.key, some):
                place = Partition(batch.topic, bucket_ms, shard)
                parts.append((Bucket(batch.topic, bucket_ms, *layout), Part(place, batch, there)))
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
