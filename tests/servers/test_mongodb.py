"""What the MongoDB store makes of a server: answers, indexes, commands."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import bson
import pytest
from pymongo.errors import ExecutionTimeout

from eventstorm.wire import Event, Events
from eventstorm_sinks.batch import Batch
from eventstorm_sinks.stores import Series, TopicSummary
from eventstorm_sinks.stores.conformance import DOCUMENTS, SOURCE, batch_of, book_of, events_of
from eventstorm_sinks.stores.mongodb import MongoStore
from eventstorm_sinks.stores.mongodb._reader import MongoReader
from eventstorm_sinks.stores.where import Condition

NOON_S = 1_700_000_000
NOON_MS = NOON_S * 1000

Open = Callable[..., MongoStore]


@pytest.fixture(params=["one", "topic", "day"])
def store(open_it: Open, request: pytest.FixtureRequest) -> MongoStore:
    """An empty store, for each way to spread events."""
    return open_it(mongodb_collections=request.param)


def put(
    store: MongoStore, documents: list[object], topic: str = "shop.order", tid: int = 0, step_ms: int = 1000
) -> None:
    """Store documents a second apart."""
    events = [Event(seq, NOON_MS + seq * step_ms, bson.encode(each)) for seq, each in enumerate(documents)]  # type: ignore[arg-type]
    store.write([Batch(topic, SOURCE, tid, Events.of(events))], [])


def test_a_series_aggregates_numbers_by_steps_and_ignores_what_is_none(store: MongoStore) -> None:
    """As every other store does."""
    put(store, [{"a": {"b": each}} for each in (1, 2.5, "7", True, None, [9], {"c": 1}, 4)] + [{"a": 5}, {}])
    assert store.series("shop.order", "a.b", "sum", NOON_S, NOON_S + 8, 5) == [
        Series("", [(NOON_S, 3.5), (NOON_S + 5, 4.0)])
    ]
    assert store.series("shop.order", "a.b", "count", NOON_S, NOON_S + 100, 50) == [Series("", [(NOON_S, 3.0)])]
    assert store.series("shop.order", None, "count", NOON_S, NOON_S + 100, 50) == [Series("", [(NOON_S, 10.0)])]
    assert store.series("shop.order", "none", "avg", NOON_S, NOON_S + 1, 1) == [Series("", [(NOON_S, None)])]
    assert store.series("shop", "a.b", "avg", NOON_S, NOON_S + 100, 50) == []


@pytest.mark.parametrize(
    ("aggregate", "expected"),
    [("avg", 50.0), ("sum", 5050.0), ("min", 0.0), ("max", 100.0), ("p50", 50.0), ("p95", 95.0), ("p99", 99.0)],
)
@pytest.mark.parametrize("by_server", [True, False], ids=["by the server", "folded here"])
def test_every_aggregate_is_what_it_says(
    open_it: Open,
    database: Any,
    monkeypatch: pytest.MonkeyPatch,
    by_server: bool,
    aggregate: str,
    expected: float,
) -> None:
    """Over several collections too: their steps are added up. Percentiles are always folded here."""
    without = "fold_series" if by_server and not aggregate.startswith("p") else "push_series"
    monkeypatch.setattr(f"eventstorm_sinks.stores.mongodb._reader.{without}", lambda *_: None)
    five_hours_ms = 18_000_000
    for split in ("one", "day"):
        store = open_it(mongodb_collections=split)
        store.write([], [], [batch_of([]).key])
        database.events.drop()
        put(store, [{"n": n} for n in range(101)], step_ms=five_hours_ms)
        step_s = 100 * 86_400
        start_s = NOON_S // step_s * step_s
        [line] = store.series("shop.order", "n", aggregate, start_s, start_s + step_s, step_s)
        [(at_s, value)] = line.points
        assert at_s == start_s
        assert value == pytest.approx(expected, rel=0.0101 if aggregate.startswith("p") else 1e-9)


def test_a_series_is_split_by_a_field_or_the_source_into_fifty_lines_at_most(store: MongoStore) -> None:
    """Those with the most events."""
    put(store, [{"n": 1, "core": n % 60} for n in range(300)] + [{"n": 1, "core": 7}, {"n": 1}], step_ms=1)
    lines = store.series("shop.order", "n", "sum", NOON_S, NOON_S + 10, 10, by="core")
    assert len(lines) == 50
    assert lines[0] == Series("7", [(NOON_S, 6.0)])
    for by, name in {
        "source.id": SOURCE.id.hex(), "source.host": SOURCE.host, "source.pid": str(SOURCE.pid), "topic": "shop.order"
    }.items():  # fmt: skip
        assert [line.name for line in store.series("", "n", "sum", NOON_S, NOON_S + 10, 10, by=by)] == [name]


@pytest.mark.parametrize("path", ["a'] FROM books", "$where", "$$ROOT", "a\0b", "", "..", "ü.[0]", "a.$b"])
def test_paths_are_names_and_never_expressions(open_it: Open, path: str) -> None:
    """Whatever they look like."""
    store = open_it()
    put(store, [{"a": 1}])
    assert store.series("shop.order", path, "sum", NOON_S, NOON_S + 1, 1, by=path) == [Series("", [(NOON_S, None)])]


@pytest.mark.parametrize(
    ("field", "aggregate", "start_s", "step_s"),
    [
        ("a", "median", 0, 1),
        (None, "sum", 0, 1),
        ("a", "sum", 0, 0),
        ("a", "sum", 1, 2),
        ("a." * 100 + "a", "sum", 0, 1),
    ],
)
def test_arguments_of_a_series_that_make_no_sense_are_refused(
    open_it: Open, field: str | None, aggregate: str, start_s: int, step_s: int
) -> None:
    """With what is wrong."""
    with pytest.raises(ValueError, match=r"aggregate|field|step"):
        open_it().series("shop.order", field, aggregate, start_s, 10, step_s)


def test_a_server_that_takes_long_over_a_condition_is_asked_for_everything(
    store: MongoStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    limits: list[int | None] = []
    in_order = MongoReader._in_order

    def slow(self: MongoReader, name: str, conditions: Any, start: Any, stop: Any, most_ms: int | None = None) -> Any:
        limits.append(most_ms)
        for number, event in enumerate(in_order(self, name, conditions, start, stop, most_ms)):
            if most_ms is not None and number == 3:
                raise ExecutionTimeout("operation exceeded time limit", 50)
            yield event

    monkeypatch.setattr(MongoReader, "_in_order", slow)
    put(store, [{"number": number} for number in range(20)], step_ms=0)
    found = [bson.decode(each.data)["number"] for each in store.read(where=[Condition("number", ">=", 9)])]
    assert found == list(range(9, 20))
    assert limits[0]
    assert limits[1:] == [None]


def test_topics_are_summed_up_by_name(store: MongoStore) -> None:
    """With their first and last event."""
    put(store, [{}, {}], topic="b", tid=0, step_ms=86_400_000)
    put(store, [{}], topic="a", tid=1)
    later_ms = NOON_MS + 86_400_000
    assert store.topics() == [TopicSummary("a", 1, NOON_MS, NOON_MS), TopicSummary("b", 2, NOON_MS, later_ms)]


def test_the_newest_events_come_first_by_topic_subtree_text_and_time(store: MongoStore) -> None:
    """As every other store does."""
    put(store, [{"name": f"Order {n}"} for n in range(5)])
    put(store, [{"name": "100%_x'"}], topic="shop.cart", tid=1)
    put(store, [{}], topic="shopping", tid=2)

    def names(topics: list[str], text: str = "", before_ms: int | None = None, limit: int = 10) -> list[object]:
        return [bson.decode(each.data).get("name") for each in store.recent(topics, text, before_ms, limit)]

    assert names([], limit=2) == ["Order 4", "Order 3"]
    assert names(["shop.cart"]) == ["100%_x'"]
    assert sorted(map(str, names(["shop."]))) == ["100%_x'", *(f"Order {n}" for n in range(5))]
    assert names(["shop"]) == []
    assert names([], "ORDER 3") == ["Order 3"]
    assert names([], "%_X'") == ["100%_x'"]
    assert names(["shop.order"], before_ms=NOON_MS + 2000) == ["Order 1", "Order 0"]
    assert names([], limit=0) == []


def test_events_are_found_wherever_an_earlier_setting_put_them(open_it: Open) -> None:
    """One collection, then one a topic, then one a day."""
    for number, split in enumerate(("one", "topic", "day")):
        store = open_it(mongodb_collections=split)
        store.write([batch_of([Event(number, 1000 * number, bson.encode({"n": number}))])], [])
    for split in ("one", "topic", "day"):
        store = open_it(mongodb_collections=split)
        assert [bson.decode(each.data)["n"] for each in store.read(["shop.order"], 0, 5000)] == [0, 1, 2]
        assert store.topics() == [TopicSummary("shop.order", 3, 0, 2000)]


def test_what_others_put_into_the_collection_is_left_out(open_it: Open, database: Any) -> None:
    """And left alone."""
    store = open_it()
    put(store, [{"a": 1}])
    database.events.insert_many([{"x": 1}, {"topic": 5, "ts": "now"}, {"topic": "shop.order", "ts": 7, "data": 1}])
    assert len(list(store.read())) == len(store.recent([], "", None, 10)) == 1
    store.series("", "a", "sum", 0, NOON_S + 1, 1, by="b")
    store.topics()
    assert database.events.count_documents({}) == 4


def test_indexes_are_made_at_the_start_and_changed_with_the_age(open_it: Open, database: Any) -> None:
    """The server removes what is older."""
    for keep, expected in (("", None), ("1h", 3600), ("2h", 7200), ("", None)):
        open_it(keep=keep).books()
        found = {each["name"]: each for each in database.events.list_indexes()}
        assert set(found) == {"_id_", "topic_1_ts_1", "ts_1"}
        assert found["ts_1"].get("expireAfterSeconds") == expected


def test_whole_days_are_dropped_when_they_are_past_keeping(open_it: Open, database: Any) -> None:
    """And no other collection."""
    database["events_old"].insert_one({})
    store = open_it(mongodb_collections="day", keep="30d")
    put(store, [{}], step_ms=1)
    store.maintain()
    assert "events_20231114" not in database.list_collection_names()
    assert "events_old" in database.list_collection_names()
    assert list(store.read()) == []


def test_an_event_that_another_unique_index_keeps_out_is_not_stored(open_it: Open, database: Any) -> None:
    """A duplicate of somebody's own key is no duplicate of the event."""
    database.events.create_index("data.order", unique=True)
    store = open_it()
    with pytest.raises(ValueError, match="refused"):
        put(store, [{"order": 1}, {"order": 1}])
    assert list(store.read()) == []


def test_an_event_that_is_too_large_is_refused_before_anything_is_written(open_it: Open) -> None:
    """16 MiB, with what is added to it."""
    store = open_it()
    large = bson.encode({"text": "x" * (16 * 2**20 - 30)})
    with pytest.raises(ValueError, match="MongoDB takes 16777216"):
        store.write([batch_of(events_of([DOCUMENTS["plain"], large]))], [])
    assert list(store.read()) == []


def test_an_event_of_nearly_16_mib_is_stored(open_it: Open) -> None:
    """And comes back."""
    store = open_it()
    large = bson.encode({"text": "x" * (16 * 2**20 - 250)})
    store.write([batch_of(events_of([DOCUMENTS["plain"], large]))], [])
    assert [each.data for each in store.read()] == [DOCUMENTS["plain"], large]


def test_a_book_that_is_too_large_leaves_nothing(open_it: Open) -> None:
    """Nor does it disturb the next write."""
    store = open_it()
    batch = batch_of(events_of([DOCUMENTS["plain"]]), source=SOURCE._replace(host="h" * (17 * 2**20)))
    with pytest.raises(Exception, match=r"too large|MongoDB takes"):
        store.write([batch], [book_of(batch)])
    assert list(store.read()) == []
    put(store, [{"a": 1}])
    assert len(list(store.read())) == 1
