"""Which collection an event lies in: one for all, one a topic, or one a day; and what each has beside its events."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta, timezone
from typing import Any

from bson.raw_bson import RawBSONDocument
from pymongo import ASCENDING
from pymongo.collection import Collection
from pymongo.database import Database
from pymongo.errors import OperationFailure

from eventstorm.wire import Events
from eventstorm_sinks.batch import Batch
from eventstorm_sinks.stores import StoreUnavailable
from eventstorm_sinks.stores.examine import Finding

__all__ = ["INDEXES", "Layout"]

INDEXES = {"topic_1_ts_1": [("topic", ASCENDING), ("ts", ASCENDING)], "ts_1": [("ts", ASCENDING)]}
"""What is asked for by: topics over time, and all events over time; the latter also removes old ones."""

_TIME_SERIES = (
    "a time-series collection, in which no index keeps an event from being stored twice; "
    "give the sink another one: mongodb://HOST/DATABASE.COLLECTION"
)
_NO_AGE = "this server removes no events by age; keep all of them: --keep '', or keep = \"\" under [sink]"
_NOT_IMPLEMENTED = 238  # says FerretDB 1
_DAY_MS = 86_400_000
_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
# Year 1 to 9999, as datetime has it. Clocks beyond go to the first or the last of these days.
_FIRST_DAY, _LAST_DAY = -719_162, 2_932_896


class Layout:
    """The collections of one store.

    Args:
        database: where they are.
        base: the name of the one collection, or what the names of several begin with.
        split: ``one``, ``topic`` or ``day``.
        keep_s: how long the server keeps events; None for ever.
    """

    def __init__(self, database: Database[RawBSONDocument], base: str, split: str, keep_s: float | None) -> None:
        self._database, self._base, self._split, self._keep_s = database, base, split, keep_s
        self._ready: set[str] = set()

    def collection(self, name: str) -> Collection[RawBSONDocument]:
        """Return a collection by its name."""
        return self._database[name]

    def parts(self, batch: Batch, events: Events) -> Iterator[tuple[str, Events]]:
        """Yield the names of collections, each with the events of a batch that belong there."""
        if self._split == "day":
            first = 0
            days = [_day(ts_ms) for ts_ms in events.ts_ms]
            for index in range(1, len(days) + 1):
                if index == len(days) or days[index] != days[first]:
                    yield f"{self._base}_{days[first]}", events[first:index]
                    first = index
        elif self._split == "topic":
            yield f"{self._base}.{batch.topic}", events
        else:
            yield self._base, events

    def prepare(self, name: str) -> None:
        """Make the indexes of a collection, and have the server remove its events when they are too old.

        What is there already is left alone, but for the age, which is changed when the setting has.

        Raises:
            StoreUnavailable: it is a time-series collection, which would take an event twice; or the server cannot
                remove by age.
        """
        if name in self._ready:
            return
        if self._is_time_series(name):
            raise StoreUnavailable(f"{name}: {_TIME_SERIES}")
        collection = self._database[name]
        there = _indexes(collection)
        for index, keys in INDEXES.items():
            wanted = self._options(index)
            if index in there and there[index].get("expireAfterSeconds") != wanted.get("expireAfterSeconds"):
                collection.drop_index(index)
                del there[index]
            if index not in there:
                try:
                    collection.create_index(keys, name=index, **wanted)
                except OperationFailure as error:
                    if wanted and error.code == _NOT_IMPLEMENTED:
                        raise StoreUnavailable(_NO_AGE) from error
                    raise
        self._ready.add(name)

    def _is_time_series(self, name: str) -> bool:
        found = self._database.list_collections(filter={"name": name})
        return any(each["name"] == name and each.get("type") == "timeseries" for each in found)

    def _options(self, index: str) -> dict[str, Any]:
        """Return what an index has beside its keys."""
        return {"expireAfterSeconds": max(1, int(self._keep_s))} if index == "ts_1" and self._keep_s else {}

    def examine(self) -> Iterator[Finding]:
        """Tell of each collection which of the indexes it has, and what is missing or other than `prepare` makes it."""
        names = self.names()
        if not names:
            yield Finding(f"no events yet: a sink makes {self._base!r} and its indexes when it starts")
        for name in names:
            if self._is_time_series(name):
                yield Finding(f"{name}: {_TIME_SERIES}", is_wrong=True)
            there = _indexes(self._database[name])
            yield Finding(f"{name}: about {self._database[name].estimated_document_count():,} events")
            for index, keys in INDEXES.items():
                shown = "{" + ", ".join(f"{key}: {order}" for key, order in keys) + "}"
                found = there.get(index)
                if found is None:
                    yield Finding(f"{name}: no index {shown}; a sink makes it when it starts", is_wrong=True)
                elif list(found["key"].items()) != keys:
                    other = dict(found["key"])
                    yield Finding(
                        f"{name}: the index {index!r} is on {other}, not on {shown}; drop it, and restart the sink",
                        is_wrong=True,
                    )
                else:
                    yield self._age_finding(name, index, shown, found.get("expireAfterSeconds"))

    def _age_finding(self, name: str, index: str, shown: str, seconds: int | None) -> Finding:
        wanted = self._options(index).get("expireAfterSeconds")
        removes = f"removes events after {seconds:,} s" if seconds is not None else "removes no events"
        if seconds == wanted:
            return Finding(f"{name}: index {shown}" + (f", {removes}" if index == "ts_1" else ""))
        asked = f"after {wanted:,} s" if wanted is not None else "none"
        return Finding(
            f"{name}: the index {shown} {removes}, `keep` asks for {asked}; a sink changes it when it starts",
            is_wrong=True,
        )

    def forget_prepared(self) -> None:
        """Look again what is there, since the server may be another one."""
        self._ready.clear()

    def names(self, topics: Sequence[str] = (), start_ms: int | None = None, stop_ms: int | None = None) -> list[str]:
        """Return the collections that may hold events of these topics and times; no topics are all.

        However events are spread now: those that lie where an earlier setting put them are found too.
        """
        base = re.escape(self._base)
        pattern = rf"^{base}($|[.]|_[0-9]{{8}}$)"
        first = _day(start_ms) if start_ms is not None else ""
        last = _day(stop_ms - 1) if stop_ms is not None else "~"
        found = []
        for name in sorted(self._database.list_collection_names(filter={"name": {"$regex": pattern}})):
            if not re.search(pattern, name):  # not every server of the protocol minds the filter
                continue
            rest = name[len(self._base) :]
            if rest.startswith("_"):
                is_asked = first <= rest[1:] <= last
            elif rest:
                is_asked = not topics or _is_asked(rest[1:], topics)
            else:
                is_asked = True
            if is_asked:
                found.append(name)
        return found

    def drop_old_days(self, now_ms: int) -> list[str]:
        """Drop the collections of days that are past keeping, and return their names.

        The server has removed their events one by one before, or is about to; the whole is cheaper.
        """
        if self._split != "day" or self._keep_s is None:
            return []
        # A day more, since events of the last millisecond of a day are kept as long as all others.
        names = self.names(stop_ms=now_ms - int(self._keep_s * 1000) - _DAY_MS)
        old = [name for name in names if name.startswith(f"{self._base}_")]
        for name in old:
            self._database.drop_collection(name)
            self._ready.discard(name)
        return old


def _indexes(collection: Collection[RawBSONDocument]) -> dict[str, Mapping[str, Any]]:
    """Return the indexes by their names."""
    try:
        return {each["name"]: each for each in collection.list_indexes()}
    except OperationFailure as error:
        if error.code == 26:  # there is no such collection yet
            return {}
        raise


def _day(ts_ms: int) -> str:
    day = min(max(ts_ms // _DAY_MS, _FIRST_DAY), _LAST_DAY)
    return (_EPOCH + timedelta(days=day)).date().isoformat().replace("-", "")


def _is_asked(topic: str, topics: Sequence[str]) -> bool:
    return any(topic.startswith(each) if each.endswith(".") else topic == each for each in topics)
