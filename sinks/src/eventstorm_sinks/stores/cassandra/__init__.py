"""Cassandra: events as rows of a cluster, ``cassandra://host1,host2/keyspace.table``.

The store is made without asking the cluster, which may be away: what is received meanwhile waits in the sink's queue.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence

from eventstorm.wire import Events
from eventstorm_sinks.batch import Batch, Book, StreamKey
from eventstorm_sinks.settings import SinkSettings
from eventstorm_sinks.share import Share
from eventstorm_sinks.stores.cassandra._archive import CassandraArchive
from eventstorm_sinks.stores.cassandra._connect import Connection, Place, guarded
from eventstorm_sinks.stores.cassandra._reader import CassandraReader
from eventstorm_sinks.stores.cassandra._schema import Schema

__all__ = ["CassandraReader", "CassandraStore"]

logger = logging.getLogger("eventstorm.cassandra")


class CassandraStore(CassandraArchive):
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
        super().__init__(location, settings, Share.parse(settings.share, settings.share_by, "sink.share"))
        if settings.keep_size:
            logger.warning("%s: keep_size is not kept: Cassandra removes by age alone; set keep", self._connection.name)

    @classmethod
    def open_to_read(cls, location: str, settings: SinkSettings) -> CassandraReader:
        """Return the store for reading alone, beside a sink that may write to it."""
        connection = Connection(Place.of(f"cassandra:{location}"))
        return CassandraReader(connection, Schema(connection, (), None, is_made=True), settings)

    @classmethod
    def open_to_insert(cls, location: str, settings: SinkSettings) -> CassandraArchive:
        """Return the store to copy events into, beside a sink that may write to it."""
        return CassandraArchive(location, settings)

    @staticmethod
    def why_not_shared(location: str) -> str:
        """Return nothing: each share has books of its own."""
        return ""

    def write(self, batches: Sequence[Batch], books: Sequence[Book], forget: Sequence[StreamKey] = ()) -> None:
        """Write the events and their books as if in one transaction; see `Store.write` and the journal."""
        with self._connected():
            events: list[tuple[Batch, Events]] = []
            marks: dict[StreamKey, int] = {}
            for batch in batches:
                new = batch.events.since(marks.get(batch.key) or self._journal.marks.get(batch.key, 0))
                if new:
                    events.append((batch, new))
                    marks[batch.key] = new.seqs[-1] + 1
            self._write(events, marks, books, forget)

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
