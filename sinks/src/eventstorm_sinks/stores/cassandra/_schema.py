"""The tables, made where they are missing, and the statements that are prepared for them."""

from __future__ import annotations

import time
from typing import Any

from cassandra.cluster import Session
from cassandra.query import PreparedStatement

from eventstorm_sinks.stores import StoreUnavailable
from eventstorm_sinks.stores.cassandra._columns import Column
from eventstorm_sinks.stores.cassandra._connect import Connection

__all__ = ["BOOK_FIELDS", "MAX_KEEP_S", "Schema"]

MAX_KEEP_S = 20 * 365 * 86_400
"""The longest time to live that Cassandra takes."""

# Of what goes together to the disk and away from it; so many of them make up what is kept.
_WINDOWS, _DEFAULT_WINDOW_S = 30, 86_400

_WAIT_FOR_TABLES_S = 5.0

BOOK_FIELDS = (
    "topic", "host", "service", "pid", "first_seq", "next_seq", "dropped",
    "stored", "refused", "overflowed", "lost_source", "lost_way", "last_at", "closed",
)  # fmt: skip
"""A book's columns, beside those of its stream and its mark."""

# What somebody may have dropped, beside the key.
_ADDABLE = {"host": "text", "service": "text", "pid": "int", "data": "text", "bson": "blob"}
_EVENTS = """CREATE TABLE IF NOT EXISTS {events} (
topic text, bucket timestamp, shard int, ts timestamp, id blob,
host text, service text, pid int, data text, bson blob{columns},
PRIMARY KEY ((topic, bucket, shard), ts, id)) WITH compaction = {compaction}
AND comment = 'Events. data: JSON; bson: the document where JSON cannot hold it; id begins with the source'"""
_BUCKETS = """CREATE TABLE IF NOT EXISTS {buckets} (
topic text, width_s int, bucket timestamp, shards int, sink text,
events bigint, bytes bigint, first timestamp, last timestamp,
PRIMARY KEY (topic, width_s, bucket, shards, sink))
WITH comment = 'Which partitions the events of a topic lie in'"""
_BOOKS = """CREATE TABLE IF NOT EXISTS {books} (
sink text, stream blob,
owner uuid STATIC, stamp bigint STATIC, committed bigint STATIC, intent blob STATIC, counts blob STATIC,
mark bigint, topic text, host text, service text, pid int, first_seq bigint, next_seq bigint, dropped bigint,
stored bigint, refused bigint, overflowed bigint, lost_source bigint, lost_way bigint, last_at bigint, closed boolean,
PRIMARY KEY (sink, stream))
WITH comment = 'How many events are stored and lost, of each source and topic; written by Paxos, touch nothing'"""

# Timestamps are read as numbers, since datetime cannot hold all that Cassandra can.
_MS = "blobAsBigint(timestampAsBlob({}))"
_HERE = "topic = ? AND bucket = ? AND shard = ?"


class Schema:
    """Makes the keyspace and the tables of a store, if they are not made by others, and prepares its statements."""

    def __init__(
        self,
        connection: Connection,
        columns: tuple[Column, ...],
        keep_s: float | None,
        *,
        is_made: bool = False,
        is_first: bool = True,
    ) -> None:
        self._connection, self._columns, self._is_made = connection, columns, is_made
        self._is_first = is_first
        self.keep_s = None if keep_s is None else max(1, int(keep_s))
        place = connection.place
        self.events = f"{place.keyspace}.{place.table}"
        self._names = {
            "events": self.events,
            "buckets": f"{place.keyspace}.{place.table}_buckets",
            "books": f"{place.keyspace}.{place.table}_books",
        }
        self._is_ready = False
        self._prepared: dict[str, PreparedStatement] = {}

    def prepare(self) -> Session:
        """Make what is missing, and return the session; nothing but that if it has been done.

        Raises:
            StoreUnavailable: what is there does not fit.
            DriverException: the cluster does not answer, or does not allow it.
        """
        session = self._connection.session()
        if not (self._is_ready or self._is_made):
            place = self._connection.place
            if not self._is_first:
                self._wait_for_tables(session)
            known = "SELECT keyspace_name FROM system_schema.keyspaces WHERE keyspace_name = %s"
            if not session.execute(known, [place.keyspace]).one():
                replication = place.replication(self._connection.nodes())
                session.execute(f"CREATE KEYSPACE IF NOT EXISTS {place.keyspace} WITH replication = {replication}")
            self._make_tables(session)
            self._is_ready = True
        return session

    def _wait_for_tables(self, session: Session) -> None:
        """Leave it to another to make the tables, for a while.

        Two that make the same table at the same moment, by two nodes, may get two tables of one name:
        https://issues.apache.org/jira/browse/CASSANDRA-10699
        """
        names = {name.partition(".")[2] for name in self._names.values()}
        asked = "SELECT table_name FROM system_schema.tables WHERE keyspace_name = %s"
        give_up_s = time.monotonic() + _WAIT_FOR_TABLES_S
        while time.monotonic() < give_up_s:
            if names <= {name for (name,) in session.execute(asked, [self._connection.place.keyspace])}:
                return
            time.sleep(0.2)  # as often as is worth the question

    def distrust(self) -> None:
        """Look again what is there, before the next write."""
        self._is_ready = False
        self._prepared = {}

    def _make_tables(self, session: Session) -> None:
        place = self._connection.place
        found: dict[str, dict[str, str]] = {}
        asked = "SELECT table_name, column_name, type FROM system_schema.columns WHERE keyspace_name = %s"
        for table, column, kind in session.execute(asked, [place.keyspace]):
            found.setdefault(table, {})[column] = kind
        columns = "".join(f", {each.name} {each.kind}" for each in self._columns)
        for text, name in ((_EVENTS, "events"), (_BUCKETS, "buckets"), (_BOOKS, "books")):
            if self._names[name].partition(".")[2] not in found:
                session.execute(text.format(**self._names, columns=columns, compaction=self._compaction()))
        there = found.get(place.table)
        if there is None:
            return
        for name, kind in (*_ADDABLE.items(), *((each.name, each.kind) for each in self._columns)):
            if name not in there:
                session.execute(f"ALTER TABLE {self.events} ADD {name} {kind}")
            elif there[name] != kind:
                raise StoreUnavailable(
                    f"{self._connection.name}: the column {name} is {there[name]}, not {kind}; give it another name in "
                    "sink.cassandra_columns, or events another table"
                )
        self._set_window(session)

    def _set_window(self, session: Session) -> None:
        """Change the windows when `keep` has changed by much: that leads to some compaction."""
        place = self._connection.place
        asked = "SELECT compaction FROM system_schema.tables WHERE keyspace_name = %s AND table_name = %s"
        row = session.execute(asked, [place.keyspace, place.table]).one()
        is_ours = row and row[0].get("class", "").endswith("TimeWindowCompactionStrategy")
        if self.keep_s is not None and is_ours:
            unit = {"MINUTES": 60, "HOURS": 3600, "DAYS": 86_400}.get(row[0].get("compaction_window_unit", "DAYS"), 1)
            window_s = int(row[0].get("compaction_window_size", 1)) * unit
            if not window_s / 2 <= self._window_s() <= window_s * 2:
                session.execute(f"ALTER TABLE {self.events} WITH compaction = {self._compaction()}")

    def _window_s(self) -> int:
        return max(60, self.keep_s // _WINDOWS if self.keep_s is not None else _DEFAULT_WINDOW_S)

    def _compaction(self) -> str:
        minutes = self._window_s() // 60
        return (
            "{'class': 'TimeWindowCompactionStrategy', 'compaction_window_unit': 'MINUTES', "
            f"'compaction_window_size': '{minutes}'}}"
        )

    def statement(self, name: str) -> PreparedStatement:
        """Return a prepared statement; prepares it, once."""
        found = self._prepared.get(name)
        if found is None:
            found = self._prepared[name] = self._connection.session().prepare(self._text(name))
        return found

    def _text(self, wanted: str) -> str:
        texts: dict[str, Any] = {
            "insert": self._insert(),
            "remove": f"DELETE FROM {{events}} WHERE {_HERE} AND ts = ? AND id = ?",
            "bucket": "INSERT INTO {buckets} (topic, width_s, bucket, shards, sink, events, bytes, first, last) "
            f"VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?){self._ttl()}",
            "count": "SELECT events, bytes, {first}, {last} FROM {buckets} "
            "WHERE topic = ? AND width_s = ? AND bucket = ? AND shards = ? AND sink = ?",
            "topics": "SELECT DISTINCT topic FROM {buckets}",
            "width": "SELECT width_s FROM {buckets} WHERE topic = ? AND width_s > ? LIMIT 1",
            "summary": f"SELECT sum(events), {_MS.format('min(first)')}, {_MS.format('max(last)')} FROM {{buckets}} "
            "WHERE topic = ? AND width_s = ? AND bucket >= ?",
            "journal": "SELECT owner, stamp, intent, counts FROM {books} WHERE sink = ? LIMIT 1",
            "streams": f"SELECT stream, mark, {', '.join(BOOK_FIELDS)} FROM {{books}} WHERE sink = ?",
            "sign": "UPDATE {books} SET owner = ?, stamp = ? WHERE sink = ? IF owner = ? AND stamp = ?",
            "intend": "UPDATE {books} SET stamp = ?, intent = ? WHERE sink = ? IF owner = ? AND stamp = ?",
            "clear": "UPDATE {books} SET stamp = ?, committed = ?, intent = ? "
            "WHERE sink = ? IF owner = ? AND stamp = ?",
            "commit": "UPDATE {books} SET stamp = ?, committed = ?, intent = ?, counts = ? "
            "WHERE sink = ? IF owner = ? AND stamp = ?",
            "committed": "SELECT DISTINCT sink, committed FROM {books}",
            "book": f"INSERT INTO {{books}} (sink, stream, mark, {', '.join(BOOK_FIELDS)}) "
            f"VALUES (?, ?, ?{', ?' * len(BOOK_FIELDS)})",
            "mark": "INSERT INTO {books} (sink, stream, mark) VALUES (?, ?, ?)",
            "forget": "DELETE FROM {books} WHERE sink = ? AND stream = ?",
        }
        for order in ("", " DESC"):
            by = order and f" ORDER BY ts{order}, id{order}"
            rows = f"FROM {{events}} WHERE {_HERE} AND ts >= ? AND ts <= ?{by}"
            heads = f"SELECT id, {_MS.format('ts')}, host, service, pid, writetime(pid)"
            texts[f"heads{order}"] = f"{heads} {rows}"
            texts[f"read{order}"] = f"{heads}, data, bson {rows}"
            by = order and f" ORDER BY width_s{order}, bucket{order}"
            texts[f"buckets{order}"] = (
                "SELECT {bucket}, shards, events, bytes FROM {buckets} "
                f"WHERE topic = ? AND width_s = ? AND bucket >= ? AND bucket <= ?{by}"
            )
        ms = {each: _MS.format(each) for each in ("bucket", "first", "last")}
        text: str = texts[wanted]
        return text.format(**self._names, **ms)

    def _insert(self) -> str:
        names = ["topic, bucket, shard, ts, id, host, service, pid, data, bson", *(each.name for each in self._columns)]
        values = ", ".join("?" * (len(self._columns) + 10))
        return f"INSERT INTO {{events}} ({', '.join(names)}) VALUES ({values}){self._ttl()}"

    def _ttl(self) -> str:
        return "" if self.keep_s is None else " USING TTL ?"
