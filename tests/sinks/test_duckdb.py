"""DuckDB as a store: what goes in comes back, once, and the books with it."""

from __future__ import annotations

import math
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import bson
import pytest
from bson import DBRef, Decimal128, Int64, MaxKey, MinKey, ObjectId, Regex, Timestamp
from bson.binary import Binary
from bson.code import Code
from bson.datetime_ms import DatetimeMS
from bson.son import SON
from hypothesis import given, settings
from hypothesis import strategies as st

from eventstorm.errors import EventstormError, StartError
from eventstorm.wire import Event, Events
from eventstorm_sinks.batch import Batch, Book, Source
from eventstorm_sinks.settings import SinkSettings
from eventstorm_sinks.stores import Reader
from eventstorm_sinks.stores.duckdb import DuckdbStore, open_read_only

SOURCE = Source(b"0123456789ab", "host-1", "shop", 7)
NOON_MS = 1_700_000_000_000


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "events.duckdb"


@pytest.fixture
def store(path: Path) -> Iterator[DuckdbStore]:
    opened = DuckdbStore(str(path), SinkSettings())
    yield opened
    opened.close()


def batch(documents: list[Any], first_seq: int = 0, topic: str = "shop.order", tid: int = 0) -> Batch:
    """A batch of documents, or of BSON, a millisecond apart."""
    encoded = [each if isinstance(each, bytes) else bson.encode(each) for each in documents]
    events = [Event(seq, NOON_MS + seq, data) for seq, data in enumerate(encoded, first_seq)]
    return Batch(topic, SOURCE, tid, Events.of(events))


def nested(depth: int) -> bytes:
    document = b"\x05\0\0\0\0"
    for _ in range(depth):
        body = b"\x03a\0" + document + b"\0"
        document = (len(body) + 4).to_bytes(4, "little") + body
    return document


def seqs(store: DuckdbStore) -> list[int]:
    return [int.from_bytes(each.id[16:], "big") for each in store.read()]


DUPLICATE_KEYS = b"\x13\0\0\0\x10a\0\1\0\0\0\x10a\0\2\0\0\0\0"
UNDEFINED = b"\x08\0\0\0\x06a\0\0"
SYMBOL = b"\x0e\0\0\0\x0ea\0\2\0\0\0x\0\0"
FOREIGN: list[Any] = [
    {"a": math.nan},
    {"a": [math.inf, {"b": -math.inf}], "b": None},
    {"a": ObjectId(b"0" * 12)},
    {"": b"", "ü": b"1"},
    {"text": "\x05", "": b""},
    {"a": Decimal128("1.50")},
    {"a": Decimal128("NaN")},
    {"a": DatetimeMS(0)},
    {"a": DatetimeMS(2**62)},
    {"a": b"raw"},
    {"": b""},
    {"a": Binary(b"1" * 16, 4)},
    {"a": Int64(5)},
    {"a": Int64(-(2**31))},
    {"a": Regex("^x", "i")},
    {"a": Timestamp(1, 2)},
    {"a": MinKey(), "b": MaxKey()},
    {"a": Code("x")},
    {"a": Code("x", {"y": ObjectId(b"0" * 12)})},
    {"a": DBRef("c", 1)},
    DUPLICATE_KEYS,
    UNDEFINED,
    SYMBOL,
]
PLAIN: list[Any] = [
    nested(150),
    {},
    {"looks like a binary value": ["\x05a\0\0\0\0\0\0", "\x05" * 2**17]},
    {"a": 42},
    {"a": 42.0},
    {"a": -0.0},
    {"a": 1e300},
    {"a": 5e-324},
    {"a": 0.1 + 0.2},
    {"a": 2**31},
    {"a": 2**63 - 1},
    {"a": -(2**63)},
    {"a": "x\0y \u2028 ü 😀"},
    {"a": None, "b": True, "c": [], "d": {}},
    {"": {"": 1}},
    {"$date": 5, "$oid": "x", "a.b": 1},
    {"A": 1, "a": 2},
    {"a": [[], [{}], 1, 1.0, "1", None]},
    {"a": "long" * 100_000},
    {"_id": 1, "z": 2},
]


def test_every_kind_of_document_comes_back_as_the_same_bytes_also_from_the_closed_file(path: Path) -> None:
    documents = [each if isinstance(each, bytes) else bson.encode(each) for each in FOREIGN + PLAIN]
    store = DuckdbStore(str(path), SinkSettings())
    store.write([batch(documents)], [])
    assert [each.data for each in store.read()] == documents
    store.close()
    reader = open_read_only(str(path), SinkSettings())
    assert [each.data for each in reader.read()] == documents
    reader.close()


def test_only_what_json_cannot_hold_is_kept_twice(store: DuckdbStore) -> None:
    store.write([batch(FOREIGN), batch(PLAIN, tid=1)], [])
    rows = store.sql(
        "SELECT bson IS NULL, count(*) FROM events GROUP BY ALL ORDER BY ALL", max_rows=9, timeout_s=9
    ).rows
    assert rows == [[False, len(FOREIGN)], [True, len(PLAIN)]]


values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats()
    | st.text()
    | st.binary()
    | st.integers(-(2**62), 2**62).map(DatetimeMS)
    | st.integers(-(2**40), 2**40).map(Int64),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text().map(lambda k: k.replace("\0", "")), inner),
    max_leaves=8,
)
keys = st.sampled_from(["a", "b", "A", "", "$date"])


@settings(max_examples=20, database=None)
@given(st.lists(st.dictionaries(keys, values), min_size=1, max_size=30))
def test_documents_of_mixed_types_under_one_key_come_back_equal(
    tmp_path_factory: pytest.TempPathFactory, documents: list[dict[str, Any]]
) -> None:
    path = tmp_path_factory.mktemp("mixed") / "events.duckdb"
    encoded = [bson.encode(each) for each in documents]
    store = DuckdbStore(str(path), SinkSettings())
    store.write([batch(encoded)], [])
    store.close()  # writes the rows of the log into the file, where VARIANT is laid out by its types
    reader = open_read_only(str(path), SinkSettings())
    found = [each.data for each in reader.read()]
    reader.close()
    assert [canonical(each) for each in found] == [canonical(each) for each in encoded]


def canonical(document: bytes) -> bytes:
    """The document with its keys in order at each depth, since VARIANT does not keep that."""

    def ordered(value: Any) -> Any:
        if isinstance(value, dict):
            return SON((key, ordered(value[key])) for key in sorted(value))
        return [ordered(each) for each in value] if isinstance(value, list) else value

    options = bson.CodecOptions(datetime_conversion=bson.codec_options.DatetimeConversion.DATETIME_MS)
    return bson.encode({"": ordered(bson.decode(document, options))})


def test_queries_see_foreign_values_as_extended_json(store: DuckdbStore) -> None:
    store.write([batch([{"a": ObjectId(b"0" * 12), "n": math.nan, "t": DatetimeMS(0), "i": Int64(5)}])], [])
    assert store.sql("SELECT data FROM events", max_rows=1, timeout_s=9).rows == [
        [
            {
                "a": {"$oid": "30" * 12},
                "n": {"$numberDouble": "NaN"},
                "t": {"$date": "1970-01-01T00:00:00Z"},
                "i": 5,
            }
        ]
    ]


@pytest.mark.parametrize("poison", [b"", b"\x05\0\0\0\1", b"\x0e\0\0\0\x02a\0\2\0\0\0\xff\0\0", nested(5_000)])
def test_an_event_that_is_no_bson_is_refused_and_nothing_of_its_write_is_stored(
    store: DuckdbStore, poison: bytes
) -> None:
    with pytest.raises(ValueError, match="not a BSON document"):
        store.write([batch([{"a": 1}]), batch([{"a": 1}, poison], tid=1)], [Book("shop.order", SOURCE, 0, 0, 1, 0)])
    assert (list(store.read()), store.books()) == ([], [])
    store.write([batch([{"a": 1}])], [])
    assert seqs(store) == [0]


@pytest.mark.parametrize("ts_ms", [2**63 - 1, 9_223_372_036_854_775, -9_223_372_022_400_001, -(2**63)])
def test_a_time_that_timestamptz_cannot_hold_is_refused(store: DuckdbStore, ts_ms: int) -> None:
    with pytest.raises(ValueError, match="TIMESTAMPTZ"):
        store.write([Batch("shop.order", SOURCE, 0, Events.of([Event(0, ts_ms, bson.encode({}))]))], [])
    assert list(store.read()) == []


@pytest.mark.parametrize("ts_ms", [-9_223_372_022_400_000, -(2**53), -1, 2**53, 9_223_372_036_854_774])
def test_times_far_away_come_back(store: DuckdbStore, ts_ms: int) -> None:
    store.write([Batch("shop.order", SOURCE, 0, Events.of([Event(0, ts_ms, bson.encode({}))]))], [])
    assert [each.ts_ms for each in store.read()] == [ts_ms]
    assert [each.ts_ms for each in store.read(start_ms=-(2**63), stop_ms=2**63 - 1)] == [ts_ms]


def test_what_overlaps_is_stored_once_also_after_a_restart(path: Path) -> None:
    documents = [{"n": n} for n in range(10)]
    store = DuckdbStore(str(path), SinkSettings())
    store.write([batch(documents[:6]), batch(documents[4:8], 4)], [])
    store.write([batch(documents[2:7], 2)], [])
    store.close()
    store = DuckdbStore(str(path), SinkSettings())
    store.write([batch(documents)], [])
    assert seqs(store) == list(range(10))
    assert [bson.decode(each.data) for each in store.read()] == documents
    store.close()


def test_numbers_of_topics_and_sources_do_not_mix(store: DuckdbStore) -> None:
    other = Batch("shop.order", Source(b"ba9876543210", "host-2", "", 8), 0, batch([{}]).events)
    store.write([batch([{}]), batch([{}], tid=1, topic="shop.cart"), other], [])
    assert len({each.id for each in store.read()}) == 3
    assert [each.source.host for each in store.read(["shop.cart"])] == ["host-1"]


def test_more_events_than_one_statement_takes_are_stored_in_order(store: DuckdbStore) -> None:
    count = 12_345
    store.write(
        [batch([{"n": seq} for seq in range(at, min(at + 1000, count))], at) for at in range(0, count, 1000)], []
    )
    assert seqs(store) == list(range(count))
    assert [each.topic for each in store.topics()] == ["shop.order"]


def test_books_are_replaced_and_forgotten_stream_by_stream(path: Path) -> None:
    first, second = (Book(f"t{tid}", SOURCE, tid, 3, 9, 1, 1, 2, 0, 1, 2, NOON_MS, tid == 1) for tid in (0, 1))
    again = Book("t0", SOURCE, 0, 3, 20, 1, 12, 2, 0, 1, 2, NOON_MS, True)
    store = DuckdbStore(str(path), SinkSettings())
    store.write([], [first, second])
    store.write([batch([{}])], [again])
    assert store.books() == [again, second]
    store.write([], [], [second.key])
    store.close()
    store = DuckdbStore(str(path), SinkSettings())
    assert store.books() == [again]
    store.close()


def test_reads_are_in_the_order_of_time_and_bounded_by_it(store: DuckdbStore) -> None:
    events = [Event(seq, NOON_MS + ms, bson.encode({})) for seq, ms in enumerate((5, 1, 3, 1))]
    store.write([Batch("shop.order", SOURCE, 0, Events.of(events))], [])
    assert [each.ts_ms - NOON_MS for each in store.read()] == [1, 1, 3, 5]
    assert seqs(store) == [1, 3, 2, 0]
    assert [each.ts_ms - NOON_MS for each in store.read(start_ms=NOON_MS + 3, stop_ms=NOON_MS + 5)] == [3]


def test_readers_on_other_threads_see_whole_writes_while_one_writes(store: DuckdbStore) -> None:
    done, wrong = threading.Event(), []

    def read() -> None:
        while not done.is_set():
            count, books = len(list(store.read())), store.books()
            if count % 50 or (books and books[0].stored < count):
                wrong.append((count, books))

    readers = [threading.Thread(target=read) for _ in range(3)]
    for each in readers:
        each.start()
    for first in range(0, 1000, 50):
        written = first + 50
        store.write(
            [batch([{"n": n} for n in range(50)], first)], [Book("t", SOURCE, 0, 0, written, 0, stored=written)]
        )
    done.set()
    for each in readers:
        each.join()
    assert wrong == []


def test_a_closed_store_says_so(path: Path) -> None:
    store = DuckdbStore(str(path), SinkSettings())
    store.close()
    store.close()
    for use in (lambda: store.write([batch([{}])], []), store.books, store.topics):
        with pytest.raises(EventstormError, match="is closed"):
            use()
    assert not Path(f"{path}.wal").exists()


def test_the_default_file_is_in_the_users_data_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    DuckdbStore("", SinkSettings()).close()
    assert (tmp_path / "data/eventstorm/events.duckdb").is_file()


def test_it_answers_questions(store: DuckdbStore) -> None:
    assert isinstance(store, Reader)


def test_a_second_process_is_told_who_has_the_file(store: DuckdbStore, path: Path) -> None:
    code = (
        "import sys; from eventstorm_sinks.settings import SinkSettings\n"
        "from eventstorm_sinks.stores import open_store\n"
        "open_store(sys.argv[1], SinkSettings())"
    )
    done = subprocess.run([sys.executable, "-c", code, f"duckdb:{path}"], capture_output=True, text=True, timeout=60)
    last = done.stderr.splitlines()[-1]
    assert "StartError" in last
    assert str(path) in last
    assert "in use by process" in last
    assert "eventstorm sql" in last


def test_a_damaged_file_is_refused_with_advice_and_left_alone(path: Path) -> None:
    path.write_bytes(b"no database" * 1000)
    with pytest.raises(StartError, match="move it and"):
        DuckdbStore(str(path), SinkSettings())
    assert path.read_bytes() == b"no database" * 1000


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StartError, match="cannot make its folder"):
        DuckdbStore(str(tmp_path / "file" / "events.duckdb"), SinkSettings())
