"""Scanning: the partitions that may hold what is asked for, and their rows in order, a few of each in memory."""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from operator import itemgetter
from typing import Any, NamedTuple

from eventstorm_sinks.stores.cassandra._connect import Connection
from eventstorm_sinks.stores.cassandra._layout import Layout, Partition
from eventstorm_sinks.stores.cassandra._requests import rows_of
from eventstorm_sinks.stores.cassandra._schema import Schema
from eventstorm_sinks.stores.cassandra._shares import Committed

__all__ = ["Scan"]

_MIN_MS, _MAX_MS = -(2**63), 2**63 - 1
# A page of rows, on the average of their bucket; and how many rows it may be.
_PAGE_BYTES, _LEAST_ROWS, _MOST_ROWS = 2**20, 10, 5_000
# Beside the user's document.
_ROW_BYTES = 200


class _Found(NamedTuple):
    """A bucket as its row tells of it, in the order in which buckets are read."""

    begins: int
    """The first time that a reader may find there; negative where the newest come first."""
    topic: str
    bucket_ms: int
    first_shard: int
    stop_shard: int
    page_rows: int


Row = tuple[Any, ...]
"""``id``, time in ms, ``host``, ``service``, ``pid``, time of writing, and where asked for ``data`` and ``bson``."""


@dataclass(frozen=True, slots=True)
class Scan:
    """Rows of some topics and times: those that were committed when this was made. Each iterator reads anew.

    Args:
        connection: whom to ask.
        schema: of the tables.
        topics: by their names.
        start_ms: from; None for the first.
        stop_ms: to, not included; None for the last.
        with_data: whether the rows have documents.
    """

    connection: Connection
    schema: Schema
    topics: Sequence[str]
    start_ms: int | None = None
    stop_ms: int | None = None
    with_data: bool = True
    committed: Committed = field(init=False)

    def __post_init__(self) -> None:
        # A table without books was filled by other means: then all of it counts.
        committed = Committed(((sink, committed_us) for sink, committed_us in self._execute("committed")), _MAX_MS)
        object.__setattr__(self, "committed", committed)

    def rows(self) -> Iterator[tuple[str, Row]]:
        """Yield (topic, row), partition by partition."""
        for bucket in self._buckets(newest=False):
            for shard in range(bucket.first_shard, bucket.stop_shard):
                for row in self._partition(bucket, shard, newest=False):
                    yield bucket.topic, row

    def ordered(self, *, newest: bool = False) -> Iterator[tuple[str, Row]]:
        """Yield (topic, row) by time, then identity; or backwards.

        As many partitions are open at a time as overlap: of each topic its shards.
        """
        sign = -1 if newest else 1
        open_ones: list[tuple[int, bytes, int, str, Row, Iterator[Row]]] = []
        number = 0

        def advance(topic: str, rows: Iterator[Row]) -> None:
            nonlocal number
            row = next(rows, None)
            if row is not None:
                number += 1
                identity = row[0] if not newest else bytes(255 - each for each in row[0])
                heapq.heappush(open_ones, (sign * row[1], identity, number, topic, row, rows))

        for bucket in self._buckets(newest=newest):
            while open_ones and open_ones[0][0] < bucket.begins:
                _, _, _, topic, row, rows = heapq.heappop(open_ones)
                yield topic, row
                advance(topic, rows)
            for shard in range(bucket.first_shard, bucket.stop_shard):
                advance(bucket.topic, self._partition(bucket, shard, newest=newest))
        while open_ones:
            _, _, _, topic, row, rows = heapq.heappop(open_ones)
            yield topic, row
            advance(topic, rows)

    def summaries(self) -> Iterator[tuple[int, int, int]]:
        """Yield (events, first time, last time) of whole buckets together, as the cluster adds them up."""
        for topic in self.topics:
            for width_s in self._widths(topic):
                earliest_ms = Layout(width_s, 1).bucket_ms(self._bounds()[0])
                for events, first_ms, last_ms in self._execute("summary", topic, width_s, earliest_ms):
                    if events:
                        yield events, first_ms, last_ms

    def _bounds(self) -> tuple[int, int]:
        """Return the first and the last time asked for."""
        start_ms = _MIN_MS if self.start_ms is None else max(self.start_ms, _MIN_MS)
        last_ms = _MAX_MS if self.stop_ms is None else min(self.stop_ms - 1, _MAX_MS)
        return start_ms, max(last_ms, _MIN_MS)

    def _buckets(self, *, newest: bool) -> Iterator[_Found]:
        """Yield the buckets that overlap the times asked for, in the order of their first or last times."""
        streams = []
        for topic in self.topics:
            widths = self._widths(topic)
            found = heapq.merge(*(self._buckets_of(topic, width_s, newest=newest) for width_s in widths))
            streams.append(_once(found) if len(widths) > 1 else found)
        return heapq.merge(*streams)

    def _widths(self, topic: str) -> list[int]:
        """Return how wide the buckets of a topic are: more than one if that was changed."""
        widths: list[int] = []
        while row := next(self._execute("width", topic, widths[-1] if widths else 0), None):
            widths.append(row[0])
        return widths

    def _buckets_of(self, topic: str, width_s: int, *, newest: bool) -> Iterator[_Found]:
        start_ms, last_ms = self._bounds()
        earliest_ms = Layout(width_s, 1).bucket_ms(start_ms)
        rows = self._execute("buckets" + _order(newest), topic, width_s, earliest_ms, last_ms)
        # Each sink has a row of its own, and each number of shards.
        for bucket_ms, group in groupby(rows, key=itemgetter(0)):
            _, shards, events, sizes = zip(*group, strict=True)
            last_in_it_ms = min(bucket_ms + width_s * 1000 - 1, last_ms)
            row_bytes = _ROW_BYTES + 2 * sum(filter(None, sizes)) // (sum(filter(None, events)) or 1)
            page_rows = min(max(_PAGE_BYTES // row_bytes, _LEAST_ROWS), _MOST_ROWS)
            yield _Found(-last_in_it_ms if newest else bucket_ms, topic, bucket_ms, 0, max(shards), page_rows)

    def _partition(self, bucket: _Found, shard: int, *, newest: bool) -> Iterator[Row]:
        name = ("read" if self.with_data else "heads") + _order(newest)
        place = Partition(bucket.topic, bucket.bucket_ms, shard)
        for row in self._execute(name, *place, *self._bounds(), page_rows=bucket.page_rows):
            if row[5] <= self.committed.of(bucket.topic, row[0][:12]):
                yield row

    def _execute(self, name: str, *values: object, page_rows: int = _MOST_ROWS) -> Iterator[Row]:
        statement = self.schema.statement(name).bind(values)
        statement.is_idempotent, statement.fetch_size = True, page_rows
        yield from rows_of(self.connection.session(), statement)


def _order(newest: bool) -> str:
    return " DESC" if newest else ""


def _once(buckets: Iterator[_Found]) -> Iterator[_Found]:
    """Yield the shards of buckets that begin at the same time, but are not equally wide, once."""
    seen: dict[int, int] = {}
    for each in buckets:
        before = seen.get(each.bucket_ms, 0)
        if each.stop_shard > before:
            seen[each.bucket_ms] = each.stop_shard
            yield each._replace(first_shard=before)
