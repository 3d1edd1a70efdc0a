"""DuckDB answering questions: graphs, the newest events, and people's own SQL, which may be hostile."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import bson
import duckdb
import pytest

from eventstorm.errors import EventstormError, StartError
from eventstorm.wire import Event, Events
from eventstorm_sinks.batch import Batch, Source
from eventstorm_sinks.settings import SinkSettings
from eventstorm_sinks.stores import Series, TopicSummary
from eventstorm_sinks.stores.duckdb import DuckdbStore, open_read_only

SOURCE = Source(b"0123456789ab", "host-1", "shop", 7)
NOON_S = 1_700_000_000
NOON_MS = NOON_S * 1000


@pytest.fixture
def store(tmp_path: Path) -> Iterator[DuckdbStore]:
    opened = DuckdbStore(str(tmp_path / "events.duckdb"), SinkSettings())
    yield opened
    opened.close()


def put(
    store: DuckdbStore, documents: list[object], topic: str = "shop.order", tid: int = 0, step_ms: int = 1000
) -> None:
    """Store documents a second apart."""
    events = [Event(seq, NOON_MS + seq * step_ms, bson.encode(each)) for seq, each in enumerate(documents)]
    store.write([Batch(topic, SOURCE, tid, Events.of(events))], [])


def ask(store: DuckdbStore, query: str, rows: int = 100, timeout_s: float = 20.0) -> list[list[object]]:
    return store.sql(query, max_rows=rows, timeout_s=timeout_s).rows


def test_a_series_aggregates_numbers_by_steps_and_ignores_what_is_none(store: DuckdbStore) -> None:
    put(store, [{"a": {"b": each}} for each in (1, 2.5, "7", True, None, [9], {"c": 1}, 4, 2**63 - 1)] + [{"a": 5}, {}])
    assert store.series("shop.order", "a.b", "sum", NOON_S, NOON_S + 8, 5) == [
        Series("", [(NOON_S, 3.5), (NOON_S + 5, 4.0)])
    ]
    assert store.series("shop.order", "a.b", "count", NOON_S, NOON_S + 100, 50) == [Series("", [(NOON_S, 4.0)])]
    assert store.series("shop.order", None, "count", NOON_S, NOON_S + 100, 50) == [Series("", [(NOON_S, 11.0)])]
    assert store.series("shop.order", "none", "avg", NOON_S, NOON_S + 1, 1) == [Series("", [(NOON_S, None)])]
    assert store.series("shop", "a.b", "avg", NOON_S, NOON_S + 100, 50) == []


@pytest.mark.parametrize(
    ("aggregate", "expected"),
    [("avg", 50.0), ("min", 0.0), ("max", 100.0), ("p50", 50.0), ("p95", 95.0), ("p99", 99.0)],
)
def test_every_aggregate_is_what_it_says(store: DuckdbStore, aggregate: str, expected: float) -> None:
    put(store, [{"n": n} for n in range(101)], step_ms=1)
    assert store.series("shop.order", "n", aggregate, NOON_S, NOON_S + 10, 10) == [Series("", [(NOON_S, expected)])]


def test_a_series_is_split_by_a_field_or_the_source_into_fifty_lines_at_most(store: DuckdbStore) -> None:
    put(store, [{"n": 1, "core": n % 60} for n in range(300)] + [{"n": 1, "core": 7}, {"n": 1}], step_ms=1)
    lines = store.series("shop.order", "n", "sum", NOON_S, NOON_S + 10, 10, by="core")
    assert len(lines) == 50
    assert lines[0] == Series("7", [(NOON_S, 6.0)])
    for by, name in (
        ("source.host", "host-1"),
        ("source.service", "shop"),
        ("source.pid", "7"),
        ("topic", "shop.order"),
    ):
        assert [line.name for line in store.series("shop.order", "n", "sum", NOON_S, NOON_S + 10, 10, by=by)] == [name]


@pytest.mark.parametrize("path", ["a'] FROM books; DROP TABLE events; --", 'a"b', "a\0b", "$1", "", "..", "ü.[0]"])
def test_paths_are_names_and_never_sql(store: DuckdbStore, path: str) -> None:
    put(store, [{"a": 1}])
    assert store.series("shop.order", path, "sum", NOON_S, NOON_S + 1, 1, by=path) == [Series("", [(NOON_S, None)])]
    assert len(list(store.read())) == 1


@pytest.mark.parametrize(
    ("field", "aggregate", "start_s", "step_s"),
    [("a", "median", 0, 1), (None, "sum", 0, 1), ("a", "sum", 0, 0), ("a", "sum", 1, 2)],
)
def test_arguments_of_a_series_that_make_no_sense_are_refused(
    store: DuckdbStore, field: str | None, aggregate: str, start_s: int, step_s: int
) -> None:
    with pytest.raises(ValueError, match=r"aggregate|field|step"):
        store.series("shop.order", field, aggregate, start_s, 10, step_s)


def test_topics_are_summed_up_by_name(store: DuckdbStore) -> None:
    put(store, [{}, {}], topic="b", tid=0)
    put(store, [{}], topic="a", tid=1)
    assert store.topics() == [TopicSummary("a", 1, NOON_MS, NOON_MS), TopicSummary("b", 2, NOON_MS, NOON_MS + 1000)]


def test_the_newest_events_come_first_by_topic_subtree_text_and_time(store: DuckdbStore) -> None:
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


def test_answers_are_values_that_json_can_hold(store: DuckdbStore) -> None:
    put(store, [{"n": 1.5, "list": [1, None]}])
    (row,) = ask(
        store,
        "SELECT *, 1.5, 2::HUGEINT * 9e18::HUGEINT AS big, 'nan'::DOUBLE, '-inf'::FLOAT, DATE '2020-01-02',"
        " 'infinity'::TIMESTAMPTZ, [ts], MAP {'a': 1}, INTERVAL 1 DAY, TIMESTAMP '20000-01-01 00:00:00', source.id"
        " FROM events",
    )
    source = {"id": SOURCE.id.hex(), "host": "host-1", "service": "shop", "pid": 7}
    assert row[:6] == [
        (SOURCE.id + bytes(12)).hex(), "2023-11-14T22:13:20Z", "shop.order", source, {"list": [1, None], "n": 1.5}, None
    ]  # fmt: skip
    assert row[6:11] == [1.5, 18 * 10**18, "NaN", "-Infinity", "2020-01-02"]
    assert row[11:] == [
        "infinity", ["2023-11-14 22:13:20+00"], {"a": 1}, "1 day", "20000-01-01T00:00:00", SOURCE.id.hex()
    ]  # fmt: skip
    assert json.loads(json.dumps(row, allow_nan=False)) == row


def test_rows_are_bounded_and_the_cut_is_told(store: DuckdbStore) -> None:
    exact, more = (store.sql("FROM range(10)", max_rows=rows, timeout_s=9) for rows in (10, 9))
    assert (len(exact.rows), exact.truncated, len(more.rows), more.truncated) == (10, False, 9, True)
    assert (exact.columns, exact.types) == (["range"], ["BIGINT"])


def test_an_answer_is_bounded_in_bytes(store: DuckdbStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("eventstorm_sinks.stores.duckdb._query._MAX_RESULT_BYTES", 1_000_000)
    result = store.sql("SELECT repeat('x', 200_000) FROM range(50)", max_rows=50, timeout_s=60)
    assert result.truncated
    assert len(result.rows) < 10


@pytest.mark.parametrize(
    "query",
    ["SHOW TABLES", "DESCRIBE events", "SUMMARIZE books", "FROM events", "VALUES (1)", "SELECT 1;", "SELECT 1 -- one",
     "/* ; */ WITH a AS (SELECT 1) FROM a", "SELECT 1 AS x, 2 AS x", "TABLE events"],
)  # fmt: skip
def test_whatever_is_like_a_select_is_answered(target: DuckdbStore, query: str) -> None:
    assert target.sql(query, max_rows=10, timeout_s=20).columns


HOSTILE = [
    "COPY events TO '{folder}/out.csv'", "COPY (SELECT 1) TO '{folder}/out'", "EXPORT DATABASE '{folder}/out'",
    "ATTACH ':memory:' AS other", "ATTACH '{folder}/out.db'", "DETACH events", "USE memory", "CREATE TABLE x (a INT)",
    "CREATE TEMP TABLE x AS SELECT 1", "CREATE MACRO f() AS 1", "DROP TABLE events", "DELETE FROM events",
    "INSERT INTO events (topic) VALUES ('x')", "UPDATE events SET topic = 'x'", "ALTER TABLE events ADD COLUMN x INT",
    "TRUNCATE events", "SET threads = 64", "SET memory_limit = '1TB'", "RESET memory_limit", "PRAGMA threads = 64",
    "INSTALL httpfs", "LOAD httpfs", "CALL pragma_version()", "CHECKPOINT", "VACUUM", "BEGIN",
    "COMMIT", "ROLLBACK", "PREPARE a AS SELECT 1", "EXECUTE a", "SELECT 1; SELECT 2", "SELECT 1; DROP TABLE events",
    "EXPLAIN ANALYZE DELETE FROM events", "", ";", "SELEC", "SELECT 1) UNION (SELECT 2", "SELECT $1",
    "SELECT * FROM read_csv('/etc/passwd')", "SELECT * FROM '/etc/passwd'", "FROM read_text('/etc/passwd')",
    "FROM read_blob('/etc/shadow')", "FROM glob('/*')", "FROM sniff_csv('/etc/passwd')",
    "FROM read_parquet('/etc/passwd')", "FROM read_csv('http://127.0.0.1:1/x')", "SELECT getenv('HOME')",
    "FROM query('DROP TABLE events')", "FROM force_checkpoint()", "FROM enable_logging()", "FROM enable_profiling()",
    "FROM enable_logging(storage = 'file', storage_path = '{folder}/logs')", "FROM query('FROM disable_'||'logging()')",
    "SELECT (SELECT any_value(1) FROM enable_logging() WHERE x = 1) FROM range(2) AS t(x)",
    "FROM json_execute_serialized_sql(json_serialize_sql('FROM enable_logging()'))",
    "FROM duckdb_secrets()", "FROM arrow_scan(1, 2, 3)", "FROM pandas_scan(1)", "FROM json",
]  # fmt: skip
if not duckdb.__version__.startswith("1."):  # which makes a harmless SELECT of it
    HOSTILE.append("PRAGMA database_list")


@pytest.fixture(scope="module")
def target(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DuckdbStore]:
    """One store for all hostile queries, since none changes anything."""
    opened = DuckdbStore(str(tmp_path_factory.mktemp("target") / "events.duckdb"), SinkSettings())
    put(opened, [{"a": 1}])
    yield opened
    opened.close()


@pytest.mark.parametrize("query", HOSTILE)
def test_a_hostile_query_is_refused_and_changes_nothing(target: DuckdbStore, tmp_path: Path, query: str) -> None:
    with pytest.raises(EventstormError):
        target.sql(query.format(folder=tmp_path), max_rows=10, timeout_s=20)
    assert ask(target, "SELECT count(*), any_value(topic) FROM events") == [[1, "shop.order"]]
    assert ask(target, "SELECT name FROM (SHOW TABLES)") == [["books"], ["events"], ["streams"]]
    assert ask(target, "SELECT count(*) FROM duckdb_databases() WHERE NOT internal") == [[1]]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "query",
    ["WITH RECURSIVE r AS (SELECT 1 AS a UNION ALL SELECT a + 1 FROM r) SELECT count(*) FROM r",
     "SELECT count(*) FROM range(1_000_000_000_000) a, range(1_000_000) b WHERE hash(a.range, b.range) = 1",
     "SELECT * FROM range(1_000_000_000_000) ORDER BY hash(range)"],
)  # fmt: skip
def test_a_query_without_an_end_is_ended_in_time(store: DuckdbStore, query: str) -> None:
    started = time.monotonic()
    with pytest.raises(EventstormError, match=r"took more than 0\.3 s|Out of Memory"):
        ask(store, query, timeout_s=0.3)
    assert time.monotonic() - started < 10


def test_a_query_that_needs_more_memory_than_allowed_fails_and_the_store_goes_on(tmp_path: Path) -> None:
    store = DuckdbStore(str(tmp_path / "events.duckdb"), SinkSettings(sql_memory="100MB"))
    with pytest.raises(EventstormError, match="Out of Memory"):
        ask(store, "SELECT list(range) FROM range(100_000_000)")
    put(store, [{"a": 1}])
    assert ask(store, "SELECT count(*) FROM events") == [[1]]
    store.close()


ENDLESS = "SELECT count(*) FROM range(1_000_000_000_000) a, range(1_000_000) b WHERE hash(a.range, b.range) = 1"


def test_a_query_is_cancelled_while_writes_go_on(store: DuckdbStore) -> None:
    cancelled, errors = threading.Event(), []

    def endless() -> None:
        try:
            store.sql(ENDLESS, max_rows=1, timeout_s=60, cancelled=cancelled)
        except EventstormError as error:
            errors.append(str(error))

    thread = threading.Thread(target=endless)
    thread.start()
    put(store, [{"a": 1}])
    assert ask(store, "SELECT count(*) FROM events") == [[1]]
    cancelled.set()
    thread.join(10)
    assert errors == ["the query was cancelled"]


def test_closing_ends_queries_that_still_run(tmp_path: Path) -> None:
    store = DuckdbStore(str(tmp_path / "events.duckdb"), SinkSettings())
    errors: list[str] = []
    begun = threading.Event()

    def endless() -> None:
        begun.set()
        try:
            ask(store, ENDLESS, timeout_s=60)
        except EventstormError as error:
            errors.append(str(error))

    thread = threading.Thread(target=endless)
    thread.start()
    begun.wait(10)
    store.close()
    thread.join(10)
    assert len(errors) == 1
    assert "close" in errors[0]


def test_a_file_is_opened_read_only_and_one_that_is_not_there_is_not_made(store: DuckdbStore, tmp_path: Path) -> None:
    put(store, [{"a": 1}])
    store.close()
    reader = open_read_only(str(tmp_path / "events.duckdb"), SinkSettings())
    assert reader.sql("SELECT data.a FROM events", max_rows=1, timeout_s=9).rows == [[1]]
    reader.close()
    with pytest.raises(StartError, match="there is no store"):
        open_read_only(str(tmp_path / "none.duckdb"), SinkSettings())
    assert not (tmp_path / "none.duckdb").exists()
