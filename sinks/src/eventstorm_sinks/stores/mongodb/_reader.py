"""Reading: events back as they came, and answers about them. Safe from any thread, as the driver's client is."""

from __future__ import annotations

import contextlib
import heapq
import re
from collections.abc import Generator, Iterator, Sequence
from itertools import islice
from typing import Any

import bson
from bson.raw_bson import RawBSONDocument
from pymongo import ASCENDING, DESCENDING
from pymongo.collection import Collection
from pymongo.errors import ExecutionTimeout, OperationFailure

from eventstorm.errors import EventstormError
from eventstorm_sinks.batch import StoredEvent
from eventstorm_sinks.settings import SinkSettings
from eventstorm_sinks.stores import Series, SqlResult, TopicSummary
from eventstorm_sinks.stores._search import containing
from eventstorm_sinks.stores.examine import Finding
from eventstorm_sinks.stores.mongodb._connect import Connection, guarded
from eventstorm_sinks.stores.mongodb._envelope import decode_event
from eventstorm_sinks.stores.mongodb._layout import Layout
from eventstorm_sinks.stores.mongodb._series import Question, fold_series, push_series
from eventstorm_sinks.stores.mongodb._where import beforehand
from eventstorm_sinks.stores.where import Condition, chosen

__all__ = ["MongoReader"]

# Of events of the same millisecond so many are put in order here; the server is asked to do it with more.
_MOST_TIED = 1_000
# A server works so long on one reading with conditions, less than any usual `socketTimeoutMS`, before it is done here.
_LONG_MS = 10_000
# What a server answers to a field of a command that it does not know.
_FAILED_TO_PARSE = 9
_MIN_MS, _MAX_MS = -(2**63), 2**63 - 1


class MongoReader:
    """Answers questions about a database."""

    def __init__(self, connection: Connection, layout: Layout, settings: SinkSettings) -> None:
        self._connection, self._layout, self._settings = connection, layout, settings

    def read(
        self,
        topics: Sequence[str] = (),
        start_ms: int | None = None,
        stop_ms: int | None = None,
        where: Sequence[Condition] = (),
    ) -> Iterator[StoredEvent]:
        """Yield events in the order of time, then identity; see `Store.read`.

        Along the indexes, so that the server has nothing to sort, and the first come at once, however many there are.
        How long all takes has no limit; each answer has the URI's `socketTimeoutMS`. Closing the iterator ends the
        server's work too.

        The server leaves out what `where` does not hold of, as far as it can tell. Where it takes long over that, as
        with events that are rare and no index for them, all are read instead, and looked at here.
        """
        with guarded(self._connection.name), contextlib.ExitStack() as stack:
            found = [
                stack.enter_context(contextlib.closing(self._choose(name, topics, start_ms, stop_ms, where)))
                for name in self._layout.names(topics, start_ms, stop_ms)
            ]
            yield from chosen(heapq.merge(*found, key=lambda each: (each.ts_ms, each.id)), where)

    def _choose(
        self,
        name: str,
        topics: Sequence[str],
        start_ms: int | None,
        stop_ms: int | None,
        where: Sequence[Condition],
    ) -> Generator[StoredEvent, None, None]:
        """Yield at least those of one collection's events of which `where` holds."""
        conditions: list[dict[str, Any]] = [{"topic": {"$in": list(topics)}}] if topics else []
        last: StoredEvent | None = None
        if pushed := beforehand(where):
            try:
                for last in self._in_order(name, [*conditions, {"$and": pushed}], start_ms, stop_ms, _LONG_MS):
                    yield last
                return
            except ExecutionTimeout:
                start_ms = start_ms if last is None else last.ts_ms
        for each in self._in_order(name, conditions, start_ms, stop_ms):
            if last is None or (each.ts_ms, each.id) > (last.ts_ms, last.id):
                yield each

    def _in_order(
        self,
        name: str,
        conditions: list[dict[str, Any]],
        start_ms: int | None,
        stop_ms: int | None,
        most_ms: int | None = None,
    ) -> Generator[StoredEvent, None, None]:
        """Yield one collection's events, in memory that has a bound even if all are of the same millisecond.

        Raises:
            ExecutionTimeout: the server has worked for `most_ms` on one question.
        """
        collection = self._layout.collection(name)
        while True:
            tied: list[StoredEvent] = []
            asked = collection.find(_matching(conditions, start_ms, stop_ms)).sort("ts", ASCENDING)
            with asked.max_time_ms(most_ms) as cursor:
                for each in _events(cursor):
                    if tied and each.ts_ms != tied[0].ts_ms:
                        yield from sorted(tied)
                        tied.clear()
                    tied.append(each)
                    if len(tied) > _MOST_TIED:
                        break
                else:
                    yield from sorted(tied)
                    return
            at_ms = tied[0].ts_ms
            at_once = {**_matching(conditions, None, None), "ts": bson.DatetimeMS(at_ms)}
            asked = collection.find(at_once).sort("_id", ASCENDING).allow_disk_use(True)
            with asked.max_time_ms(most_ms) as cursor:
                yield from _events(cursor)
            if at_ms == _MAX_MS:
                return
            start_ms = at_ms + 1

    def topics(self) -> list[TopicSummary]:
        """Return what topics there are, by name: found by the index, without a look at the events."""
        found: dict[str, TopicSummary] = {}
        most_ms = self._most_ms()
        with guarded(self._connection.name):
            for name in self._layout.names():
                collection = self._layout.collection(name)
                for topic in _topics(collection, most_ms):
                    if not isinstance(topic, str):
                        continue
                    ends = [
                        collection.find_one({"topic": topic}, {"ts": 1}, sort=[("ts", order)], max_time_ms=most_ms)
                        for order in (ASCENDING, DESCENDING)
                    ]
                    first_ms, last_ms = (_ts_ms(each) for each in ends)
                    if first_ms is None or last_ms is None:
                        continue
                    events = collection.count_documents({"topic": topic}, maxTimeMS=most_ms)
                    summary = TopicSummary(topic, events, first_ms, last_ms)
                    found[topic] = _sum(found[topic], summary) if topic in found else summary
        return [found[topic] for topic in sorted(found)]

    def series(
        self,
        topic: str,
        field: str | None,
        aggregate: str,
        start_s: int,
        stop_s: int,
        step_s: int,
        by: str | None = None,
    ) -> list[Series]:
        """Aggregate a numeric field over steps of time, lines with the most events first; see `Reader.series`.

        The server does it where it can; percentiles are folded here, within 1 %. A path that meets an array has no
        value.
        """
        asked = Question(topic, field, aggregate, start_s, stop_s, step_s, by, self._settings.sql_timeout_s)
        matching = _matching([{"topic": topic}] if topic else [], asked.start_ms, asked.stop_ms)
        with guarded(self._connection.name):
            names = self._layout.names([topic] if topic else (), asked.start_ms, asked.stop_ms)
            collections = [self._layout.collection(name) for name in names]
            found = push_series(collections, matching, asked) if asked.can_be_pushed() else None
            return fold_series(collections, matching, asked) if found is None else found

    def recent(self, topics: Sequence[str], text: str, before_ms: int | None, limit: int) -> list[StoredEvent]:
        """Return the newest events, newest first; see `Reader.recent`.

        `text` is looked for in the topic and in the document as JSON, in upper and lower case alike. For that events
        are read, the newest first, until there are enough.
        """
        if limit <= 0:
            return []
        asked: list[dict[str, Any]] = []
        if topics:
            subtrees = [{"topic": {"$regex": f"^{re.escape(each)}"}} for each in topics if each.endswith(".")]
            asked.append({"$or": [{"topic": {"$in": list(topics)}}, *subtrees]})
        matching = _matching(asked, None, before_ms)
        with guarded(self._connection.name):
            names = self._layout.names(topics, None, before_ms)
            cursors = []
            for name in names:
                cursor = self._layout.collection(name).find(matching).sort("ts", DESCENDING)
                if not text:
                    cursor = cursor.limit(limit)
                cursors.append(_events(cursor.max_time_ms(self._most_ms())))
            found = heapq.merge(*cursors, key=lambda each: each.ts_ms, reverse=True)
            return list(islice(containing(found, text, self._settings.sql_timeout_s), limit))

    def examine(self) -> Iterator[Finding]:
        """Tell what the collections have beside their events; see `eventstorm_sinks.stores.examine`."""
        with guarded(self._connection.name, whatever=True):
            yield from self._layout.examine()

    def sql(self, query: str, *, max_rows: int, timeout_s: float, cancelled: Any = None) -> SqlResult:
        """Refuse: MongoDB does not speak SQL."""
        raise EventstormError(
            f"{self._connection.name} does not answer SQL; ask it by mongosh, or store into DuckDB too: "
            "--store duckdb:events.duckdb"
        )

    def _most_ms(self) -> int:
        return max(1, int(self._settings.sql_timeout_s * 1000))

    def close(self) -> None:
        """Close the connections. A second call does nothing."""
        self._connection.client.close()


def _topics(collection: Collection[RawBSONDocument], most_ms: int) -> list[Any]:
    try:
        return collection.distinct("topic", maxTimeMS=most_ms)
    except OperationFailure as error:
        if error.code != _FAILED_TO_PARSE:
            raise
        # FerretDB knows no limit of time here; the driver's own wait for an answer has one.
        return collection.distinct("topic")


def _events(documents: Iterator[RawBSONDocument]) -> Iterator[StoredEvent]:
    return (event for event in map(decode_event, documents) if event is not None)


def _matching(conditions: list[dict[str, Any]], start_ms: int | None, stop_ms: int | None) -> dict[str, Any]:
    span: dict[str, Any] = {}
    if start_ms is not None:
        span["$gte"] = bson.DatetimeMS(min(max(start_ms, _MIN_MS), _MAX_MS))
    if stop_ms is not None:
        span["$lt"] = bson.DatetimeMS(min(max(stop_ms, _MIN_MS), _MAX_MS))
    found = conditions + ([{"ts": span}] if span else [])
    return {name: value for each in found for name, value in each.items()}


def _ts_ms(document: RawBSONDocument | None) -> int | None:
    ts = document["ts"] if document is not None and "ts" in document else None
    return int(ts) if isinstance(ts, bson.DatetimeMS) else None


def _sum(one: TopicSummary, other: TopicSummary) -> TopicSummary:
    return TopicSummary(
        one.topic,
        one.events + other.events,
        min(one.first_ms, other.first_ms),
        max(one.last_ms, other.last_ms),
    )
