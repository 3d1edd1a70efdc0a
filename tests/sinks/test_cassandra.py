"""What of the Cassandra store needs no server: URLs, partitions, columns, and a cluster that is not there."""

from __future__ import annotations

import bson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from eventstorm.errors import SettingError, StartError
from eventstorm.wire import Events
from eventstorm_sinks.batch import Batch, StreamKey
from eventstorm_sinks.settings import SinkSettings
from eventstorm_sinks.stores import Reader, StoreUnavailable, open_store
from eventstorm_sinks.stores._json import decode_document, encode_document
from eventstorm_sinks.stores.cassandra._columns import parse_columns
from eventstorm_sinks.stores.cassandra._connect import Place
from eventstorm_sinks.stores.cassandra._journal import Intent
from eventstorm_sinks.stores.cassandra._layout import Layout, layouts_of
from eventstorm_sinks.stores.cassandra._rows import stream_id
from eventstorm_sinks.stores.conformance import DOCUMENTS, SOURCE, batch_of, book_of, events_of

KEY = StreamKey(SOURCE.id, 0)


@pytest.mark.parametrize("name", DOCUMENTS)
def test_json_comes_back_to_the_byte_or_is_known_not_to(name: str) -> None:
    """So that BSON is kept only where it is needed."""
    document = DOCUMENTS[name]
    data, comes_back, _ = encode_document(document)
    try:
        really = decode_document(data) == document
    except Exception:  # of whatever kind
        really = False
    assert comes_back == (really and name != "not finite")  # which would, but are rare, and not looked at again


def test_a_url_says_all_that_it_may() -> None:
    """Hosts, one port, names, and options."""
    place = Place.of("cassandra://me:p%40ss@one,[::1],two:9142/space.rows?consistency=one&replication=a:3,b:2")
    assert (place.hosts, place.port, place.keyspace, place.table) == (("one", "::1", "two"), 9142, "space", "rows")
    assert (place.user, place.password) == ("me", "p@ss")
    assert place.replication(9) == "{'class': 'NetworkTopologyStrategy', 'a': 3, 'b': 2}"
    assert "p%40ss" not in place.name


def test_a_url_needs_to_say_little() -> None:
    """There are defaults."""
    place = Place.of("cassandra://one")
    assert (place.hosts, place.port, place.keyspace, place.table) == (("one",), 9042, "eventstorm", "events")
    assert [place.replication(nodes)[-2] for nodes in (1, 2, 3, 9)] == ["1", "2", "3", "3"]


@pytest.mark.parametrize(
    ("location", "words"),
    [
        ("", "write hosts as"),
        ("//", "write hosts as"),
        ("//a b/x", "write hosts as"),
        ("//one:1,two:2/x", "all nodes have one port"),
        ("//one/Space", "'Space' is no name"),
        ("//one/space.a-b", "'a-b' is no name"),
        ("//one/space.x; DROP KEYSPACE space", "is no name"),
        ("//one/space?consistancy=one", "did you mean 'consistency'"),
        ("//one/space?consistency=any", "is none of local_quorum"),
        ("//one/space?replication=0", "write replication=3"),
        ("//one/space?replication=a:'3", "write replication=3"),
        ("//one/space?timeout_s=soon", "write seconds"),
        ("//one/space?tls_ca=/nowhere", "tls_ca without tls=true"),
        ("//one/space?tls=true&tls_ca=/nowhere", "No such file"),
        ("//one/space?protocol=3", "is none of 4, 5"),
    ],
)
def test_a_url_that_makes_no_sense_is_refused_with_the_reason(location: str, words: str) -> None:
    """At the start, without a password in it."""
    with pytest.raises(StartError) as failed:
        open_store("cassandra:" + location.replace("//", "//me:secret@", 1), SinkSettings())
    assert words in str(failed.value)
    assert "secret" not in str(failed.value)


@pytest.mark.parametrize(
    "text", ["", "*", "*=", "=1h", "*=1h/0", "*=1h/257", "*=1h/x", "*=0.1s", "*=32d", "A=1h", "http.*.hit=1h"]
)
def test_a_layout_that_makes_no_sense_is_refused(text: str) -> None:
    """With how to write it."""
    with pytest.raises(SettingError, match=r"sink.cassandra_layout: "):
        layouts_of([text])


def test_the_layout_of_a_topic_is_that_of_the_longest_pattern() -> None:
    """Whatever their order."""
    layouts = layouts_of(["http.*=10m/4", "*=2h", "http.hit=1m/8"])
    found = [layouts.of(topic) for topic in ("http.hit", "http.hits", "shop.order")]
    assert found == [Layout(60, 8), Layout(600, 4), Layout(7200, 1)]
    assert layouts_of([]).of("x") == Layout(3600, 1)


TIMES = st.integers(-(2**63), 2**63 - 1)


@given(
    times=st.lists(st.one_of(TIMES, st.integers(10**12, 10**12 + 10_000)), min_size=1, max_size=50),
    first=st.integers(0, 2**62),
    gap=st.integers(1, 300),
    layout=st.builds(Layout, st.integers(1, 31 * 86_400), st.integers(1, 256)),
)
def test_an_event_lies_where_its_intent_says_however_it_is_batched(
    times: list[int], first: int, gap: int, layout: Layout
) -> None:
    """Each exactly once, in a bucket that holds its time."""
    events = Events([first + gap * each for each in range(len(times))], times, [b""] * len(times))
    batch = Batch("shop.order", SOURCE, 0, events)
    whole = [
        ((bucket_ms, shard), ts_ms, stream_id(KEY) + seq.to_bytes(8, "big"))
        for bucket_ms, shard, part in layout.parts(KEY, events)
        for seq, ts_ms in zip(part.seqs, part.ts_ms, strict=True)
    ]
    single = [
        (bucket_ms, shard)
        for each in range(len(times))
        for bucket_ms, shard, _ in layout.parts(KEY, events[each : each + 1])
    ]
    assert [place for place, _, _ in whole] == single
    assert [ts_ms for _, ts_ms, _ in whole] == times
    assert all(bucket_ms <= ts_ms < bucket_ms + layout.width_s * 1000 for (bucket_ms, _), ts_ms, _ in whole)
    intent = Intent.of(batch, events, layout)
    assert [(tuple(place[1:]), ts_ms, identity) for place, ts_ms, identity in intent.rows()] == whole


@pytest.mark.parametrize("text", ["status", "status=a", "status=:int", "data=a:int", "A=a:int", "a=b:ints", "a;=b:int"])
def test_a_column_that_makes_no_sense_is_refused(text: str) -> None:
    """With how to write it."""
    with pytest.raises(SettingError, match=r"sink.cassandra_columns: "):
        parse_columns((text,))


@pytest.mark.parametrize(
    ("kind", "value", "expected"),
    [
        ("int", 5, b"\0\0\0\5"),
        ("int", 5.0, b"\0\0\0\5"),
        ("int", 2**31, None),
        ("int", True, None),
        ("int", 1.5, None),
        ("int", float("inf"), None),
        ("bigint", bson.Int64(-1), b"\xff" * 8),
        ("double", 1, b"\x3f\xf0" + bytes(6)),
        ("double", bson.Decimal128("1"), b"\x3f\xf0" + bytes(6)),
        ("double", bson.Decimal128("NaN"), None),
        ("double", "1", None),
        ("text", "ä", "ä".encode()),
        ("text", "x" * 1025, None),
        ("text", 5, None),
        ("boolean", False, b"\0"),
        ("boolean", 0, None),
        ("timestamp", bson.DatetimeMS(1), bytes(7) + b"\1"),
        ("timestamp", 1, None),
    ],
)
def test_a_column_takes_what_fits_its_type(kind: str, value: object, expected: bytes | None) -> None:
    """And nothing else, without an error."""
    [column] = parse_columns((f"name=a.b:{kind}",))
    _, _, decoded = encode_document(bson.encode({"a": {"b": value}}))
    assert column.of(decoded) == expected
    assert column.of({}) is None


def test_a_cluster_that_is_not_there_is_unavailable_and_nothing_worse() -> None:
    """The store is made all the same; each call says where it was looked for, without the password."""
    store = open_store("cassandra://me:secret@127.0.0.1:1/none", SinkSettings())
    assert isinstance(store, Reader)
    batch = batch_of(events_of([DOCUMENTS["plain"]]))
    for call in (lambda: store.write([batch], [book_of(batch)]), store.books, lambda: list(store.read()), store.topics):
        with pytest.raises(StoreUnavailable, match=r"cassandra://me:\*\*\*@127.0.0.1:1/none: .*refused"):
            call()
    store.maintain()
    store.close()
    store.close()
