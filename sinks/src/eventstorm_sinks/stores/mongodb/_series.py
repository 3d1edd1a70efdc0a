"""Numeric fields over time: aggregated by the server, or folded here where the server does not know how."""

from __future__ import annotations

import re
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import bson
from bson.codec_options import CodecOptions, DatetimeConversion
from pymongo.collection import Collection
from pymongo.errors import OperationFailure

from eventstorm.errors import EventstormError
from eventstorm_sinks.live_values import dig, number
from eventstorm_sinks.stores import Series
from eventstorm_sinks.stores._fold import MAX_LINES, NameCounter, SeriesFold, check_series, line_name
from eventstorm_sinks.stores.mongodb._connect import is_unavailable

__all__ = ["PLAIN_PATH", "Question", "fold_series", "push_series"]

_PLAIN: CodecOptions[dict[str, Any]] = CodecOptions(
    datetime_conversion=DatetimeConversion.DATETIME_MS, unicode_decode_error_handler="replace"
)
_SOURCE_FIELDS = {"topic", "source.id", "source.host", "source.service", "source.pid"}
# What the server reads as one name after another. Others, which may begin with $, are looked for here.
PLAIN_PATH = re.compile(r"[A-Za-z0-9_:@/-]+(?:\.[A-Za-z0-9_:@/-]+)*", re.ASCII)
_MAX_S = 9 * 10**12
# Of each collection: a name that is common in all of them together is not rare in each.
_MAX_NAMES = 1_000
# So rarely the clock is looked at.
_EVENTS_A_LOOK = 1_000


@dataclass(frozen=True, slots=True)
class Question:
    """The arguments of `Reader.series`, checked."""

    topic: str
    field: str | None
    aggregate: str
    start_s: int
    stop_s: int
    step_s: int
    by: str | None
    timeout_s: float

    def __post_init__(self) -> None:
        check_series(self.field, self.aggregate, self.start_s, self.step_s, self.by)

    @property
    def start_ms(self) -> int:
        """From, in milliseconds."""
        return max(self.start_s, -_MAX_S) * 1000

    @property
    def stop_ms(self) -> int:
        """To, not included, in milliseconds."""
        return min(max(self.stop_s, -_MAX_S), _MAX_S) * 1000

    def can_be_pushed(self) -> bool:
        """Tell whether the server can be asked. Percentiles it has in its newest versions only, and roughly too."""
        paths = (path for path in (self.field, self.by) if path is not None)
        return not self.aggregate.startswith("p") and all(map(PLAIN_PATH.fullmatch, paths))


def push_series(
    collections: list[Collection[Any]], matching: Mapping[str, Any], asked: Question
) -> list[Series] | None:
    """Have the server aggregate each collection, and add up here; None if it does not know how.

    Raises:
        PyMongoError: it is away, or the time is up.
    """
    cells: dict[tuple[str, int], _Cell] = {}
    try:
        names = _commonest(collections, matching, asked) if asked.by is not None else {"": []}
        pipeline = _pipeline(matching, asked, [value for values in names.values() for value in values])
        for collection in collections:
            for row in _ask(collection, pipeline, asked):
                key = line_name(row["_id"].get("name")), int(row["_id"]["step"])
                cell = _Cell(row["numbers"], _plain(row["result"]))
                cells[key] = cells[key].joined(cell, asked.aggregate) if key in cells else cell
    except OperationFailure as error:
        if is_unavailable(error):
            raise
        return None
    points: dict[str, list[tuple[int, float | None]]] = {name: [] for name in names}
    for (name, step), cell in cells.items():
        if name in points:
            points[name].append((asked.start_s + step * asked.step_s, cell.value(asked.aggregate)))
    return [Series(name, sorted(each)) for name, each in points.items() if each]


class _Cell(NamedTuple):
    """A step of a line in one collection: how many numbers there were, and their sum, least or greatest."""

    numbers: int
    result: float | None

    def joined(self, other: _Cell, aggregate: str) -> _Cell:
        known = [each for each in (self.result, other.result) if each is not None]
        result = {"min": min, "max": max}.get(aggregate, sum)(known) if known else None
        return _Cell(self.numbers + other.numbers, result)

    def value(self, aggregate: str) -> float | None:
        if aggregate == "count":
            return float(self.numbers)
        if not self.numbers or self.result is None:
            return None
        return self.result / (self.numbers if aggregate == "avg" else 1)


def _commonest(
    collections: list[Collection[Any]], matching: Mapping[str, Any], asked: Question
) -> dict[str, list[Any]]:
    """Return the names of the lines with the most events, each with the values that are shown so."""
    counts: Counter[str] = Counter()
    values: dict[str, list[Any]] = {}
    counting: list[dict[str, Any]] = [
        {"$match": dict(matching)},
        {"$group": {"_id": f"${_place(asked.by or '')}", "events": {"$sum": 1}}},
        {"$sort": {"events": -1}},
        {"$limit": _MAX_NAMES},
    ]
    for collection in collections:
        for each in _ask(collection, counting, asked):
            name = line_name(each["_id"])
            counts[name] += each["events"]
            values.setdefault(name, []).append(each["_id"])
    chosen = sorted(counts, key=lambda name: (-counts[name], name))[:MAX_LINES]
    return {name: values[name] for name in chosen}


def _pipeline(matching: Mapping[str, Any], asked: Question, values: list[Any]) -> list[dict[str, Any]]:
    """Return what the server is to do, with what servers of all ages know."""
    found = dict(matching)
    if asked.by is not None:
        found = {"$and": [found, {_place(asked.by): {"$in": values}}]}
    number: Any = 1
    if asked.field is not None:
        path = f"$data.{asked.field}"
        # In the order of BSON's types only numbers lie between null and texts.
        number = {"$cond": [{"$and": [{"$gt": [path, None]}, {"$lt": [path, ""]}]}, path, None]}
    since = {"$subtract": ["$ts", bson.DatetimeMS(asked.start_ms)]}
    step = {"$floor": {"$divide": [since, asked.step_s * 1000]}}
    operator = {"min": "$min", "max": "$max"}.get(asked.aggregate, "$sum")
    return [
        {"$match": found},
        {
            "$group": {
                "_id": {"name": f"${_place(asked.by)}" if asked.by is not None else "", "step": step},
                "numbers": {"$sum": {"$cond": [{"$eq": [number, None]}, 0, 1]}},
                "result": {operator: number},
            }
        },
    ]


def _place(by: str) -> str:
    return by if by in _SOURCE_FIELDS else f"data.{by}"


def _plain(result: Any) -> float | None:
    if result is None:
        return None
    return float(result.to_decimal() if isinstance(result, bson.Decimal128) else result)


def _ask(collection: Collection[Any], pipeline: list[dict[str, Any]], asked: Question) -> Iterator[dict[str, Any]]:
    most_ms = max(1, int(asked.timeout_s * 1000))
    return collection.with_options(codec_options=_PLAIN).aggregate(pipeline, maxTimeMS=most_ms, allowDiskUse=True)


def fold_series(collections: list[Collection[Any]], matching: Mapping[str, Any], asked: Question) -> list[Series]:
    """Read the events, and aggregate them here.

    Raises:
        EventstormError: the time is up.
        PyMongoError: the server is away.
    """
    stop_at_s = time.monotonic() + asked.timeout_s
    names = [""]
    if asked.by is not None:
        counter = NameCounter()
        for each in _events(collections, matching, asked, stop_at_s):
            counter.add(_text(each, asked.by))
        names = counter.commonest()
    fold = SeriesFold(asked.aggregate, asked.start_s, asked.step_s, names)
    for each in _events(collections, matching, asked, stop_at_s):
        value = 1.0 if asked.field is None else number(dig(each["data"], asked.field))
        fold.add("" if asked.by is None else _text(each, asked.by), int(each["ts"]), value)
    return fold.series()


def _events(
    collections: list[Collection[Any]], matching: Mapping[str, Any], asked: Question, stop_at_s: float
) -> Iterator[dict[str, Any]]:
    paths = [path for path in (asked.field, asked.by) if path is not None and path not in _SOURCE_FIELDS]
    wanted = {"ts": 1, "topic": 1, "source": 1}
    # A server refuses to be asked for a field and for one inside of it.
    is_nested = any(one.startswith(f"{other}.") for one in paths for other in paths)
    if all(map(PLAIN_PATH.fullmatch, paths)) and not is_nested:
        wanted.update((f"data.{path}", 1) for path in paths)
    else:
        wanted["data"] = 1
    seen = 0
    for collection in collections:
        left_ms = max(1, int((stop_at_s - time.monotonic()) * 1000))
        for each in collection.with_options(codec_options=_PLAIN).find(matching, wanted, max_time_ms=left_ms):
            seen += 1
            if seen % _EVENTS_A_LOOK == 0 and time.monotonic() > stop_at_s:
                raise EventstormError(
                    f"the question took more than {asked.timeout_s:g} s: ask for less time, or one topic"
                )
            if isinstance(each.get("data", {}), dict):
                yield {"data": {}, "topic": "", "source": {}, **each}


def _text(event: Mapping[str, Any], by: str) -> str:
    return line_name(dig(event, by) if by in _SOURCE_FIELDS else dig(event["data"], by))
