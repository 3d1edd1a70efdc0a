"""Which buckets there are, and how much is in each: what readers find events by.

A bucket's row is there before its first event. Its counts are what the books' journal has committed, so that they are
exact; they are written as totals, and may be written again.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Mapping
from typing import NamedTuple

import msgspec
from cassandra.query import UNSET_VALUE

from eventstorm_sinks.stores.cassandra._connect import Connection
from eventstorm_sinks.stores.cassandra._layout import Bucket
from eventstorm_sinks.stores.cassandra._requests import run_all
from eventstorm_sinks.stores.cassandra._rows import Part
from eventstorm_sinks.stores.cassandra._schema import MAX_KEEP_S, Schema

__all__ = ["Buckets", "Count"]

_MAX_KNOWN = 10_000
_REQUESTS = 32
# A bucket is known of for this much longer than its last event is kept.
_MARGIN_S = 86_400


class Count(NamedTuple):
    """What is in a bucket."""

    events: int
    size_bytes: int
    first_ms: int
    last_ms: int

    def plus(self, other: Count) -> Count:
        """Add up."""
        return Count(
            self.events + other.events,
            self.size_bytes + other.size_bytes,
            min(self.first_ms, other.first_ms),
            max(self.last_ms, other.last_ms),
        )


_to_blob = msgspec.msgpack.Encoder().encode
_from_blob = msgspec.msgpack.Decoder(list[tuple[Bucket, Count]]).decode


class Buckets:
    """The buckets that one sink writes to. Used by one thread."""

    def __init__(self, connection: Connection, schema: Schema, sink: str) -> None:
        self._connection, self._schema, self._sink = connection, schema, sink
        self._known: OrderedDict[Bucket, Count | None] = OrderedDict()

    def forget(self) -> None:
        """Look again what is there."""
        self._known.clear()

    def open(self, buckets: Iterable[Bucket]) -> None:
        """Make the rows of buckets, and learn what is in them."""
        session = self._connection.session()
        new = [each for each in dict.fromkeys(buckets) if each not in self._known]
        for each in new:
            row = session.execute(self._schema.statement("count").bind(self._key(each))).one()
            self._known[each] = Count(*row) if row and row[0] is not None else None
        rows = [self._row(each, None) for each in new if self._known[each] is None]
        run_all(session, rows, _REQUESTS)

    def totals(self, parts: Iterable[tuple[Bucket, Part]]) -> list[tuple[Bucket, Count]]:
        """Return what will be in the buckets when these parts are."""
        found: dict[Bucket, Count] = {}
        for bucket, (_, _, events) in parts:
            size = sum(map(len, events.documents))
            more = Count(len(events), size, min(events.ts_ms), max(events.ts_ms))
            before = found.get(bucket) or self._known.get(bucket)
            found[bucket] = before.plus(more) if before else more
        return list(found.items())

    def encode(self, totals: list[tuple[Bucket, Count]]) -> bytes:
        """Return totals as what the journal keeps."""
        return _to_blob(totals)

    def apply(self, blob: bytes | None) -> None:
        """Write the totals that the journal kept."""
        totals: Mapping[Bucket, Count] = dict(_from_blob(blob)) if blob else {}
        run_all(self._connection.session(), (self._row(*each) for each in totals.items()), _REQUESTS)
        for bucket, count in totals.items():
            self._known[bucket] = count
            self._known.move_to_end(bucket)
        while len(self._known) > _MAX_KNOWN:
            self._known.popitem(last=False)

    def _row(self, bucket: Bucket, count: Count | None) -> object:
        values: tuple[object, ...] = (*self._key(bucket), *(count or (UNSET_VALUE,) * 4))
        if (keep_s := self._schema.keep_s) is not None:
            values += (min(keep_s + bucket.width_s + _MARGIN_S, MAX_KEEP_S),)
        bound = self._schema.statement("bucket").bind(values)
        bound.is_idempotent = True
        return bound

    def _key(self, bucket: Bucket) -> tuple[object, ...]:
        return bucket.topic, bucket.width_s, bucket.start_ms, bucket.shards, self._sink
