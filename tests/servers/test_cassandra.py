"""What the Cassandra store makes of a server: answers, columns, ages, and each step that a write may end at."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from typing import Any

import bson
import pytest
from cassandra import OperationTimedOut
from cassandra.cluster import Session

from eventstorm.wire import Event, Events
from eventstorm_sinks.batch import Batch
from eventstorm_sinks.settings import SinkSettings
from eventstorm_sinks.stores import (
    Series,
    StoreUnavailable,
    TopicSummary,
    conformance,
    open_archive,
    open_store,
    open_to_read,
)
from eventstorm_sinks.stores.cassandra import CassandraStore, _journal
from eventstorm_sinks.stores.cassandra._buckets import Buckets
from eventstorm_sinks.stores.cassandra._journal import Journal
from eventstorm_sinks.stores.conformance import DOCUMENTS, SOURCE, batch_of, book_of, events_of
from servers.cassandra_server import CassandraServer

NOON_S = 1_700_000_000
NOON_MS = NOON_S * 1000

Open = Callable[..., CassandraStore]


@pytest.fixture
def open_it(table_url: str) -> Iterator[Open]:
    """Return a function that opens the same store again, with some settings."""
    stores: list[CassandraStore] = []

    def open_it(**settings: Any) -> CassandraStore:
        stores.append(open_store(table_url, SinkSettings(**settings)))  # type: ignore[arg-type]
        return stores[-1]

    yield open_it
    for store in stores:
        store.close()


@pytest.fixture
def outsider(shared_cassandra: CassandraServer) -> Iterator[Session]:
    """The cluster as somebody else sees it."""
    with shared_cassandra.session() as session:
        yield session


@pytest.fixture(params=["*=1h", "*=3s/2"])
def store(open_it: Open, request: pytest.FixtureRequest) -> CassandraStore:
    """An empty store, with wide partitions and with narrow ones."""
    return open_it(cassandra_layout=(request.param,))


def put(
    store: CassandraStore, documents: list[object], topic: str = "shop.order", tid: int = 0, step_ms: int = 1000
) -> None:
    """Store documents a second apart."""
    events = [Event(seq, NOON_MS + seq * step_ms, bson.encode(each)) for seq, each in enumerate(documents)]  # type: ignore[arg-type]
    store.write([Batch(topic, SOURCE, tid, Events.of(events))], [])


def test_a_series_aggregates_numbers_by_steps_and_ignores_what_is_none(store: CassandraStore) -> None:
    """As every other store does."""
    put(store, [{"a": {"b": each}} for each in (1, 2.5, "7", True, None, [9], {"c": 1}, 4)] + [{"a": 5}, {}])
    assert store.series("shop.order", "a.b", "sum", NOON_S, NOON_S + 8, 5) == [
        Series("", [(NOON_S, 3.5), (NOON_S + 5, 4.0)])
    ]
    assert store.series("shop.order", "a.b", "count", NOON_S, NOON_S + 100, 50) == [Series("", [(NOON_S, 3.0)])]
    assert store.series("shop.order", None, "count", NOON_S, NOON_S + 100, 50) == [Series("", [(NOON_S, 10.0)])]
    assert store.series("shop.order", "none", "avg", NOON_S, NOON_S + 1, 1) == [Series("", [(NOON_S, None)])]
    assert store.series("shop", "a.b", "avg", NOON_S, NOON_S + 100, 50) == []


def test_a_series_knows_the_numbers_that_json_does_not(store: CassandraStore) -> None:
    """64-bit integers, and those of documents that are kept as BSON."""
    put(store, [{"n": bson.Int64(2)}, {"n": 2**40}, {"n": 1, "x": float("nan")}, {"n": float("inf")}])
    assert store.series("shop.order", "n", "sum", NOON_S, NOON_S + 10, 10) == [Series("", [(NOON_S, 2.0**40 + 3)])]


def test_a_series_is_split_by_a_field_or_the_source_into_fifty_lines_at_most(store: CassandraStore) -> None:
    """Those with the most events."""
    put(store, [{"n": 1, "core": n % 60} for n in range(300)] + [{"n": 1, "core": 7}, {"n": 1}], step_ms=1)
    lines = store.series("shop.order", "n", "sum", NOON_S, NOON_S + 10, 10, by="core")
    assert len(lines) == 50
    assert lines[0] == Series("7", [(NOON_S, 6.0)])
    for by, name in {
        "source.id": SOURCE.id.hex(), "source.host": SOURCE.host, "source.pid": str(SOURCE.pid), "topic": "shop.order"
    }.items():  # fmt: skip
        assert [line.name for line in store.series("", "n", "sum", NOON_S, NOON_S + 10, 10, by=by)] == [name]


def test_topics_are_summed_up_by_name(open_it: Open) -> None:
    """With their first and last event, over buckets of all widths."""
    for layout in ("*=1h", "*=5s/3"):
        store = open_it(cassandra_layout=(layout,))
        put(store, [{}, {}], topic=f"b.{layout[2]}", tid=ord(layout[2]), step_ms=86_400_000)
    put(store, [{}], topic="a", tid=1)
    later_ms = NOON_MS + 86_400_000
    assert store.topics() == [
        TopicSummary("a", 1, NOON_MS, NOON_MS),
        TopicSummary("b.1", 2, NOON_MS, later_ms),
        TopicSummary("b.5", 2, NOON_MS, later_ms),
    ]


def test_the_newest_events_come_first_by_topic_subtree_text_and_time(store: CassandraStore) -> None:
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


def test_events_are_found_once_wherever_an_earlier_setting_put_them(open_it: Open) -> None:
    """Also where partitions of several widths begin at the same time, and are the same."""
    start_ms = NOON_MS // 3_600_000 * 3_600_000
    for number, layout in enumerate(("*=1h/1", "*=1h/4", "*=10s/2", "*=7s", "*=1m/3")):
        store = open_it(cassandra_layout=(layout,))
        events = [Event(1000 * number + n, start_ms + 500 * n + number, bson.encode({})) for n in range(100)]
        store.write([batch_of(events)], [])
    found = list(store.read(["shop.order"]))
    assert [(each.ts_ms, each.id) for each in found] == sorted({(each.ts_ms, each.id) for each in found})
    assert len(found) == 500
    newest = store.recent(["shop.order"], "", None, 1000)
    assert [each.ts_ms for each in newest] == sorted((each.ts_ms for each in found), reverse=True)
    assert len(list(store.read(["shop.order"], start_ms + 7000, start_ms + 9000))) == 20


def test_documents_are_json_for_those_who_ask_by_cql(open_it: Open, outsider: Session) -> None:
    """BSON is there too only where it is needed; chosen fields have columns, added when they are chosen."""
    put(open_it(), [{"http": {"status": 200}, "at": bson.DatetimeMS(0)}, {"x": float("nan")}])
    columns = ("cql_status=http.status:int", "cql_at=at:timestamp")
    put(open_it(cassandra_columns=columns), [{"http": {"status": 404}, "at": bson.DatetimeMS(5)}, {}], tid=1)
    asked = (
        f"SELECT data, bson, cql_status, cql_at FROM {TABLE} WHERE topic = 'shop.order' AND bucket = %s AND shard = 0"
    )
    rows = list(outsider.execute(asked, [NOON_MS // 3_600_000 * 3_600_000]))
    assert [json.loads(row.data) for row in rows] == [
        {"http": {"status": 200}, "at": {"$date": "1970-01-01T00:00:00.000Z"}},
        {"http": {"status": 404}, "at": {"$date": "1970-01-01T00:00:00.005Z"}},
        {"x": {"$numberDouble": "NaN"}},
        {},
    ]
    assert [row.bson is not None for row in rows] == [False, False, True, False]
    assert [row.cql_status for row in rows] == [None, 404, None, None]
    assert rows[1].cql_at.microsecond == 5000


TABLE = "tests.events"


def test_a_column_of_another_type_is_said_to_be_in_the_way(open_it: Open) -> None:
    """And what to do about it."""
    open_it(cassandra_columns=("other=a:int",)).books()
    with pytest.raises(StoreUnavailable, match="the column other is int, not text; give it another name"):
        open_it(cassandra_columns=("other=a:text",)).books()


def test_an_event_lives_as_long_as_is_said_from_its_own_time_on(open_it: Open, outsider: Session) -> None:
    """What is too old already goes at once; clocks that are ahead gain nothing."""
    store = open_it(keep="1h")
    now_ms = int(time.time() * 1000)
    ages_s = (7200, 1800, 0, -7200)
    store.write(
        [batch_of([Event(seq, now_ms - 1000 * age_s, bson.encode({})) for seq, age_s in enumerate(ages_s)])], []
    )
    left = {row.id[-1]: row.left for row in outsider.execute(f"SELECT id, ttl(data) AS left FROM {TABLE}")}
    assert left.pop(0, 1) <= 1
    assert left == {1: pytest.approx(1800, abs=60), 2: pytest.approx(3600, abs=60), 3: pytest.approx(3600, abs=60)}


def test_requests_are_of_one_partition_and_no_server_warns_of_them(
    open_it: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However large the events."""
    store = open_it(cassandra_layout=("*=1m/4",))
    warnings: list[object] = []
    real = Session.execute_async

    def watch(session: Session, statement: Any, *arguments: Any, **named: Any) -> Any:
        future = real(session, statement, *arguments, **named)
        future.add_callback(lambda _: warnings.append(future.warnings))
        return future

    monkeypatch.setattr(Session, "execute_async", watch)
    put(store, [{"text": "x" * (20_000 if n % 3 else 10)} for n in range(3000)], step_ms=100)
    assert len(warnings) > 100
    assert not any(warnings)
    assert len(list(store.read())) == 3000


def test_an_event_that_is_too_large_is_refused_and_nothing_is_left(open_it: Open) -> None:
    """One of half that size is stored."""
    store = open_it()
    large = [bson.encode({"text": "x" * size}) for size in (16 * 2**20, 8 * 2**20)]
    with pytest.raises(ValueError, match="Cassandra takes 15728640"):
        store.write([batch_of(events_of([DOCUMENTS["plain"], large[0]]))], [])
    assert list(store.read()) == []
    store.write([batch_of(events_of([DOCUMENTS["plain"], large[1]]))], [])
    assert [each.data for each in store.read()] == [DOCUMENTS["plain"], large[1]]


def test_what_a_server_refuses_over_and_over_is_refused_alone(open_it: Open) -> None:
    """Its limit is lower than most, here by its small heap: it is not taken for one that is away."""
    writer = conformance._writer(open_it())
    documents = [*conformance._numbered(1, 2), bson.encode({"text": "x" * (12 * 2**20)}), *conformance._numbered(3)]
    writer.put(conformance._message(0, documents))
    assert writer.close(timeout_s=60) == 0
    [book] = open_it().books()
    assert (book.stored, book.refused) == (3, 1)


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("step", ["intend", "insert", "commit", "apply"])
@pytest.mark.parametrize("goes_on", ["the same sink", "another sink", "another sink, whose clock is behind"])
def test_a_write_that_ends_anywhere_counts_as_a_whole_or_not_at_all(
    open_it: Open, monkeypatch: pytest.MonkeyPatch, step: str, after: bool, goes_on: str
) -> None:
    """The same sink tries again; another finds books, counts and events of the same moment."""
    store = open_it(cassandra_layout=("*=2s/2",))
    first, second = batch_of(events_of([DOCUMENTS["plain"]] * 3)), batch_of(events_of([DOCUMENTS["plain"]] * 4, seq=3))
    store.write([first], [book_of(first)])
    broken = [True]

    def breaking(real: Callable[..., Any], is_it: Callable[..., bool] = lambda *_: True) -> Callable[..., Any]:
        def call(*arguments: Any, **named: Any) -> Any:
            if not (broken and is_it(*arguments)):
                return real(*arguments, **named)
            if after:
                real(*arguments, **named)
            broken.clear()
            raise OperationTimedOut("cut off")

        return call

    if step == "insert":
        monkeypatch.setattr(CassandraStore, "_insert", breaking(CassandraStore._insert))
    elif step == "apply":
        monkeypatch.setattr(Buckets, "apply", breaking(Buckets.apply))
    else:
        monkeypatch.setattr(Journal, "_set", breaking(Journal._set, lambda _, name, *values: name == step))
    total = book_of(batch_of(events_of([DOCUMENTS["plain"]] * 7)))
    with pytest.raises(StoreUnavailable, match="cut off"):
        store.write([second], [total])
    assert not broken
    if goes_on == "the same sink":
        store.write([second], [total])
        stored = 7
    else:
        if "behind" in goes_on:
            now = time.time
            monkeypatch.setattr(_journal.time, "time", lambda: now() - 3600)
        store = open_it()
        stored = 7 if step == "apply" or (step == "commit" and after) else 3
    assert [book.stored for book in store.books()] == [stored]
    assert len(list(store.read())) == stored
    assert [each.events for each in store.topics()] == [stored]
    # What was undone comes again by the right way, and is there.
    store.write([second], [total])
    assert len(list(store.read())) == 7
    assert [each.events for each in store.topics()] == [7]


def test_what_arrives_after_its_removal_stays_removed(open_it: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    """From an earlier sink that does not know yet that it is replaced, by one whose clock is an hour behind."""
    earlier = open_it()
    batch = batch_of(events_of([DOCUMENTS["plain"]] * 3))
    real = CassandraStore._insert
    late: list[Callable[[], None]] = []

    def postpone(store: CassandraStore, parts: Any) -> None:
        late.append(lambda: real(store, parts))
        raise OperationTimedOut("paused")

    monkeypatch.setattr(CassandraStore, "_insert", postpone)
    with pytest.raises(StoreUnavailable):
        earlier.write([batch], [book_of(batch)])
    monkeypatch.undo()
    now = time.time
    monkeypatch.setattr(_journal.time, "time", lambda: now() - 3600)
    store = open_it()
    assert store.books() == []
    late[0]()
    assert list(store.read()) == []
    with pytest.raises(StoreUnavailable, match="another sink has begun to write"):
        earlier.write([batch], [book_of(batch)])
    store.write([batch], [book_of(batch)])
    late[0]()
    assert len(list(store.read())) == 3


def test_a_change_of_the_books_that_is_late_does_nothing(open_it: Open) -> None:
    """A node that was paused finds it, after the sink has gone on by another."""
    store = open_it()
    first, second = batch_of(events_of([DOCUMENTS["plain"]] * 3)), batch_of(events_of([DOCUMENTS["plain"]] * 4, seq=3))
    sent: list[Any] = []
    real = Journal._compare_and_set
    store._journal._compare_and_set = lambda statement: sent.append(statement) or real(store._journal, statement)  # type: ignore[method-assign,func-returns-value]
    store.write([first], [book_of(first)])
    store.write([second], [book_of(batch_of(events_of([DOCUMENTS["plain"]] * 7)))])
    for each in sent:
        assert not real(store._journal, each)
    assert [book.stored for book in store.books()] == [7]


def test_a_reader_sees_no_write_that_is_under_way(open_it: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its rows are there already, but may still be removed."""
    store, reader = open_it(), open_it()
    first, second = batch_of(events_of([DOCUMENTS["plain"]] * 3)), batch_of(events_of([DOCUMENTS["plain"]] * 4, seq=3))
    store.write([first], [book_of(first)])
    seen: list[int] = []
    real = Journal.commit

    def look(*arguments: Any) -> None:
        seen.append(len(list(reader.read())))
        real(*arguments)

    monkeypatch.setattr(Journal, "commit", look)
    store.write([second], [book_of(batch_of(events_of([DOCUMENTS["plain"]] * 7)))])
    assert seen == [3]
    assert len(list(reader.read())) == 7


def test_tables_that_are_dropped_under_a_sink_are_made_anew(open_it: Open, outsider: Session) -> None:
    """Books go on from where the sink knows them to be; what was dropped is gone."""
    store = open_it()
    first, second = batch_of(events_of([DOCUMENTS["plain"]] * 3)), batch_of(events_of([DOCUMENTS["plain"]] * 4, seq=3))
    store.write([first], [book_of(first)])
    for each in ("", "_buckets", "_books"):
        outsider.execute(f"DROP TABLE {TABLE}{each}")
    with pytest.raises(StoreUnavailable):
        store.write([second], [book_of(batch_of(events_of([DOCUMENTS["plain"]] * 7)))])
    store.write([second], [book_of(batch_of(events_of([DOCUMENTS["plain"]] * 7)))])
    assert len(list(store.read())) == 4
    assert [book.stored for book in store.books()] == [7]


def test_a_search_and_a_series_end_when_their_time_is_up(open_it: Open) -> None:
    """With what to do about it."""
    store = open_it(sql_timeout_s=1e-9)
    put(store, [{}] * 10)
    with pytest.raises(Exception, match="ask for less time"):
        store.series("shop.order", None, "count", NOON_S, NOON_S + 100, 1)
    with pytest.raises(Exception, match="ask for one topic"):
        store.recent([], "none", None, 10)


def test_events_are_copied_in_and_out_beside_a_sink_that_writes(open_it: Open, table_url: str) -> None:
    """Numbers below those that are stored too; nothing twice, and the sink is not replaced."""
    store = open_it()
    late = batch_of(events_of([DOCUMENTS["plain"]] * 3, seq=10))
    store.write([late], [book_of(late)])
    early = batch_of(events_of([DOCUMENTS["a name twice"]] * 4, seq=2))
    archive = open_archive(table_url, SinkSettings())
    for _ in range(2):
        archive.insert([early, batch_of(events_of([DOCUMENTS["arrays"]]), "shop.visit", tid=1)], [])
        archive.close()
        archive = open_archive(table_url, SinkSettings())
    archive.close()
    more = batch_of(events_of([DOCUMENTS["plain"]] * 2, seq=13))
    store.write([more], [book_of(batch_of(events_of([DOCUMENTS["plain"]] * 5, seq=10)))])
    readable = open_to_read(table_url, SinkSettings())
    found = list(readable.read())
    assert len({each.id for each in found}) == len(found) == 3 + 4 + 1 + 2
    assert [book.stored for book in readable.books()] == [5]
    readable.close()
