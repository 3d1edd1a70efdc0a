"""The books, and how they stay in step with the events although no transaction spans both.

A sink's books are one partition, so that Cassandra changes them all or nothing, and each change is a compare-and-set
(a "lightweight transaction": Paxos), so that whether it happened has one answer, even if the first one got lost. A
write goes in three steps, each acknowledged before the next begins:

1. *intend*: the partition's ``intent`` says of which events rows are about to be inserted: their keys, all of them;
2. *insert*: the rows, whose time of writing is the intent's ``stamp``;
3. *commit*: the new books and marks, and no intent any more. This is the moment at which the write counts.

Whoever finds an intent of another removes its rows: nobody was told that they are stored. The removal's time of writing
is not before the insertion's. Of two writes of a cell Cassandra keeps the later one, and of equally late ones the
removal, whichever it receives first. So a row that arrives after its removal (from a node that was paused, from a hint
kept for one that was away, from the earlier sink, which does not know yet that it is replaced) is removed all the same:
for this, servers remember removals for 10 days (``gc_grace_seconds``), and hints for three hours. Rows that come again
have a later stamp again.

``committed`` is the last stamp at which there was no intent. Readers leave out rows that were written after it: so they
see whole writes, and none that may still be removed.

Stamps are microseconds since 1970 that never go back: each is greater than the one before, which the partition keeps.
So clocks that differ, of hosts or of servers, change nothing: the servers' own are not used, nor is a sink's if it is
behind the stamp. Each compare-and-set asks for the stamp that it follows; so one that is late finds another, and does
nothing. The owner is asked for as well: the last sink to start is the one that writes, and the earlier one says so.

Sinks that share a table have a partition each, named after their share. One that starts with another division of the
streams *retires* the partitions of all shares that overlap with its own: it gives them an owner that is nobody, then
removes what they intended, then says that nothing is intended any more. So nobody writes there, and its own streams go
on, in its own partition, from where their last accounts end. Several may do so at the same time: none writes before it
has seen that nothing is intended there, and then its stamps are later than those of all removals.
"""

from __future__ import annotations

import contextlib
import time
import uuid
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain, count
from typing import Any, NamedTuple

import msgspec
from cassandra.query import BatchStatement, BatchType

from eventstorm.wire import Events
from eventstorm_sinks.batch import Batch, Book, Source, StreamKey
from eventstorm_sinks.books import handed_over
from eventstorm_sinks.share import Share
from eventstorm_sinks.stores import StoreUnavailable
from eventstorm_sinks.stores.cassandra._buckets import Buckets
from eventstorm_sinks.stores.cassandra._connect import Connection
from eventstorm_sinks.stores.cassandra._layout import Layout, Partition
from eventstorm_sinks.stores.cassandra._requests import run_all
from eventstorm_sinks.stores.cassandra._rows import removal, stream_id
from eventstorm_sinks.stores.cassandra._schema import Schema
from eventstorm_sinks.stores.cassandra._shares import COPY, name_of, share_of

__all__ = ["Intent", "Journal", "book_of"]

_REQUESTS = 32
_BOOKS_A_CHANGE = 500
_NOBODY = uuid.UUID(int=0)
"""The owner of a partition that nobody writes to any more."""


class Intent(NamedTuple):
    """Rows of one stream that are about to be inserted: all that their keys are made of."""

    topic: str
    layout: Layout
    stream: bytes
    first_seq: int
    least_ms: int
    seqs: list[int]
    """Above the first; empty if there is no gap."""
    ts_ms: list[int]
    """Above the least."""

    @classmethod
    def of(cls, batch: Batch, events: Events, layout: Layout) -> Intent:
        """Make the intent of storing some of a batch's events."""
        first, least = events.seqs[0], min(events.ts_ms)
        has_gaps = events.seqs[-1] - first + 1 != len(events)
        seqs = [each - first for each in events.seqs] if has_gaps else []
        times = [each - least for each in events.ts_ms]
        return cls(batch.topic, layout, stream_id(batch.key), first, least, seqs, times)

    def rows(self) -> Iterator[tuple[Partition, int, bytes]]:
        """Yield (partition, time, identity) of each row."""
        key = _key(self.stream)
        for seq, ts_ms in zip(self.seqs or count(), self.ts_ms, strict=False):
            seq, ts_ms = self.first_seq + seq, self.least_ms + ts_ms
            partition = Partition(self.topic, self.layout.bucket_ms(ts_ms), self.layout.shard(key, seq))
            yield partition, ts_ms, self.stream + seq.to_bytes(8, "big")


_to_blob = msgspec.msgpack.Encoder().encode
_from_blob = msgspec.msgpack.Decoder(list[Intent]).decode


class Journal:
    """One sink's partition of the table of books. Used by one thread."""

    def __init__(self, connection: Connection, schema: Schema, share: Share | None) -> None:
        """Write nothing yet; `share` is None for copying, which overlaps with nobody."""
        self._connection, self._schema, self._share = connection, schema, share
        self._sink = COPY if share is None else name_of(share)
        self.buckets = Buckets(connection, schema, self._sink)
        self._owner = uuid.uuid4()
        self._is_mine = self._is_open = self._has_taken_over = False
        self._least_stamp = 0
        """What this one's stamps are later than."""
        self.marks: dict[StreamKey, int] = {}
        """Of each stream, the number after the last one that is stored."""
        self._unfinished: bytes | None = None
        """The intent of this process's own last attempt, which may have been inserted in part."""

    def open(self) -> None:
        """Sign the books, undo what another sink left, and learn the marks; nothing if that has been done.

        Raises:
            StoreUnavailable: another sink has signed them since.
            DriverException: the cluster does not answer.
        """
        if self._is_open:
            return
        try:
            intent, counts = self._sign()
            if intent != self._unfinished:
                self._remove(intent)
                self._set("clear", None)
                self._unfinished = None
            self.buckets.forget()
            self.buckets.apply(counts)
            self.marks = {_key(stream): mark for stream, mark, *_ in self._streams(self._sink) if mark}
            if self._share is not None and not self._has_taken_over:
                self._take_over(self._share)
                self._has_taken_over = True
            self._is_open = True
        except BaseException:
            self._is_open = False
            raise

    def _take_over(self, share: Share) -> None:
        """Keep sinks that divide the streams in another way from writing this share's, and go on from their books."""
        sinks = [sink for sink, _ in self._connection.session().execute(self._schema.statement("committed").bind(()))]
        others = {sink: other for sink in sinks if sink != self._sink and (other := share_of(sink)) is not None}
        for sink in [sink for sink, other in others.items() if share.overlaps(other)]:
            stamp, counts = self._retire(sink)
            with self._stamped(stamp):
                Buckets(self._connection, self._schema, sink).apply(counts)
            self._least_stamp = max(self._least_stamp, stamp)
            self._go_on_from(self._streams(sink), share)

    def _retire(self, sink: str) -> tuple[int, bytes | None]:
        """Let nobody write to a partition, undo what is unfinished; return its last stamp, and its counts."""
        while True:
            owner, stamp, intent, counts = self._row(sink)
            if owner is None or (owner == _NOBODY and intent is None):
                return stamp or 0, counts
            if owner != _NOBODY:
                change = self._schema.statement("sign").bind((_NOBODY, self._next(stamp), sink, owner, stamp))
            else:
                with self._stamped(stamp):
                    self._remove(intent)
                change = self._schema.statement("intend").bind((self._next(stamp), None, sink, owner, stamp))
            self._compare_and_set(change)  # by whomever: it is looked at again

    def _go_on_from(self, rows: Sequence[tuple[Any, ...]], share: Share) -> None:
        """Write books that go on where those of a sink end whose streams these are now."""
        known = {book.key: book for book in self.books()}
        rows = [row for row in rows if row[2] is not None]
        for first in range(0, len(rows), _BOOKS_A_CHANGE):
            some = rows[first : first + _BOOKS_A_CHANGE]
            books = handed_over(known, map(book_of, some), share)
            keys = {book.key for book in books}
            marks = {_key(row[0]): max(row[1] or 0, self.marks.get(_key(row[0]), 0)) for row in some}
            if books:
                self.commit({key: mark for key, mark in marks.items() if key in keys and mark}, books, (), None)
                known.update((book.key, book) for book in books)

    @contextlib.contextmanager
    def _stamped(self, stamp: int) -> Iterator[None]:
        """Write at another partition's time."""
        own, self._connection.stamp_us = self._connection.stamp_us, stamp
        try:
            yield
        finally:
            self._connection.stamp_us = own

    def _sign(self) -> tuple[bytes | None, bytes | None]:
        """Return what the partition says to its new or old owner."""
        while True:
            owner, stamp, intent, counts = self._row(self._sink)
            if owner == self._owner:
                self._connection.stamp_us = stamp
                self._is_mine = True
                return intent, counts
            if self._is_mine and owner is not None:
                raise StoreUnavailable(self._taken_over())
            new = self._next(stamp or 0)
            applied = self._compare_and_set(
                self._schema.statement("sign").bind((self._owner, new, self._sink, owner, stamp))
            )
            if applied:
                self._connection.stamp_us = new
                self._is_mine = True
                return intent, counts

    def _taken_over(self) -> str:
        return (
            f"another sink has begun to write to {self._connection.name}; stop one of the two, let them share the "
            "events (--share 1/2 and 2/2), or give each a table of its own: cassandra://HOST/KEYSPACE.TABLE"
        )

    def distrust(self) -> None:
        """Look again what the cluster has, before the next write: it failed in between."""
        self._is_open = False

    def intend(self, intents: Sequence[Intent]) -> None:
        """Say what is about to be inserted."""
        blob = zlib.compress(_to_blob(intents), 1)
        if self._unfinished is not None and self._unfinished != blob:
            self._remove(self._unfinished)
        self._unfinished = blob  # before it is known, since it may be there although no answer comes
        self._set("intend", blob)

    def undo(self) -> None:
        """Remove what was inserted since `intend`."""
        self._remove(self._unfinished)
        self._set("clear", None)
        self._unfinished = None

    def commit(
        self, marks: Mapping[StreamKey, int], books: Sequence[Book], forget: Iterable[StreamKey], counts: bytes | None
    ) -> None:
        """Make the write count: what was inserted, the new marks, the books; and the buckets' new counts, if any."""
        if self._unfinished is not None and counts is None:
            self.undo()
        batch = BatchStatement(BatchType.UNLOGGED, serial_consistency_level=self._connection.place.serial_consistency())
        gone = set(forget) - marks.keys()
        kept = {**self.marks, **marks}
        for book in books:
            batch.add(self._schema.statement("book").bind(self._book_values(book, kept.get(book.key, 0))))
        booked = {book.key for book in books}
        for key, mark in marks.items():
            if key not in booked:
                batch.add(self._schema.statement("mark").bind((self._sink, stream_id(key), mark)))
        for key in gone:
            batch.add(self._schema.statement("forget").bind((self._sink, stream_id(key))))
        self._set("commit", None, counts, batch=batch)
        self._unfinished = None
        self.marks.update(marks)
        for key in gone:
            self.marks.pop(key, None)
        self.buckets.apply(counts)

    def _set(self, name: str, *values: object, batch: BatchStatement | None = None) -> None:
        """Change the partition, if nobody else has since.

        Raises:
            StoreUnavailable: somebody has.
        """
        old = self._connection.stamp_us
        new = self._next(old)
        stamps = (new,) if name == "intend" else (new, new)
        change = self._schema.statement(name).bind((*stamps, *values, self._sink, self._owner, old))
        if batch is not None:
            batch.add(change)
        # From now on it is in doubt, until it is read or answered.
        self._is_open = False
        if not self._compare_and_set(batch if batch is not None else change):
            self._sign()  # tells if it was another sink
            raise StoreUnavailable(f"{self._connection.name}: the books have changed in between")
        self._connection.stamp_us = new
        self._is_open = True

    def _compare_and_set(self, statement: Any) -> bool:
        return bool(self._connection.session().execute(statement).was_applied)

    def _next(self, stamp: int) -> int:
        return max(int(time.time() * 1_000_000), stamp + 1, self._least_stamp + 1)

    def _row(self, sink: str) -> tuple[Any, ...]:
        """Return a partition's owner, stamp, intent and counts."""
        row: tuple[Any, ...] = self._read("journal", sink).one() or (None,) * 4
        return row

    def _read(self, name: str, sink: str) -> Any:
        statement = self._schema.statement(name).bind((sink,))
        statement.consistency_level = self._connection.place.serial_consistency()
        return self._connection.session().execute(statement)

    def _streams(self, sink: str) -> list[tuple[Any, ...]]:
        return [row for row in self._read("streams", sink) if row[0] is not None]

    def _remove(self, intent: bytes | None) -> None:
        """Remove the rows of an intent, those too that are still on their way."""
        if intent is None:
            return
        # At the partition's stamp, which is that of the last insertion, or later. Of the same stamp, a removal wins.
        remove = self._schema.statement("remove")
        rows = chain.from_iterable(each.rows() for each in _from_blob(zlib.decompress(intent)))
        run_all(self._connection.session(), (removal(remove, *each) for each in rows), _REQUESTS)

    def books(self) -> list[Book]:
        """Return the books last written."""
        return [book_of(row) for row in self._streams(self._sink) if row[2] is not None]

    def _book_values(self, book: Book, mark: int) -> tuple[object, ...]:
        source = book.source
        return (
            self._sink, stream_id(book.key), mark, book.topic, source.host, source.service, source.pid,
            book.first_seq, book.next_seq, book.drop, book.stored, book.refused, book.overflowed,
            book.lost_source, book.lost_way, book.last_at_ms, book.closed,
        )  # fmt: skip


def _key(stream: bytes) -> StreamKey:
    return StreamKey(stream[:12], int.from_bytes(stream[12:], "big"))


def book_of(row: tuple[Any, ...]) -> Book:
    """Return the book of a row of the table of books."""
    stream, _, topic, host, service, pid, first_seq, next_seq, drop, *rest = row
    source_id, tid = _key(stream)
    return Book(topic, Source(source_id, host, service, pid), tid, first_seq, next_seq, drop, *rest)
