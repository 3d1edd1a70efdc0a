"""What of the MongoDB store needs no server: bytes, URIs, and a server that is not there."""

from __future__ import annotations

import argparse
import logging
import time
from dataclasses import replace
from pathlib import Path

import bson
import pytest
from bson import json_util
from bson.codec_options import CodecOptions, DatetimeConversion
from bson.raw_bson import RawBSONDocument
from hypothesis import given
from hypothesis import strategies as st

from eventstorm.commands import check
from eventstorm.errors import EventstormError, StartError
from eventstorm.wire import Event, event_id
from eventstorm_sinks.batch import Source, StoredEvent, StreamKey
from eventstorm_sinks.settings import SinkSettings
from eventstorm_sinks.stores import Reader, StoreUnavailable, open_store
from eventstorm_sinks.stores._fold import NameCounter, SeriesFold
from eventstorm_sinks.stores.conformance import DOCUMENTS, SOURCE, batch_of
from eventstorm_sinks.stores.mongodb._connect import RAW
from eventstorm_sinks.stores.mongodb._envelope import Documents, decode_event, encode_events
from eventstorm_sinks.stores.mongodb._late import Late, Span, uncovered
from eventstorm_sinks.write import Writer
from ports import free_port
from sinks.rig import PROGRAM, Process

OPTIONS: CodecOptions[dict[str, object]] = CodecOptions(datetime_conversion=DatetimeConversion.DATETIME_MS)


@pytest.mark.parametrize("name", DOCUMENTS)
def test_the_users_document_is_stored_to_the_byte(name: str) -> None:
    """And comes back so."""
    batch = batch_of([Event(5, 1000, DOCUMENTS[name])])
    stored = encode_events(batch, batch.events)
    assert bytes(DOCUMENTS[name]) in stored
    back = decode_event(RawBSONDocument(stored, RAW))
    assert back == StoredEvent(event_id(SOURCE.id, 0, 5), 1000, "shop.order", SOURCE, DOCUMENTS[name])


@given(
    source=st.builds(
        Source,
        st.binary(min_size=12, max_size=12),
        st.text(st.characters(exclude_categories=["Cs"])),
        st.text(st.characters(exclude_categories=["Cs"])),
        st.integers(0, 2**31 - 1),
    ),
    tid=st.integers(0, 2**31 - 1),
    seq=st.integers(0, 2**63 - 1),
    ts_ms=st.integers(-(2**63), 2**63 - 1),
)
def test_the_envelope_is_what_encoding_it_as_a_whole_would_give(source: Source, tid: int, seq: int, ts_ms: int) -> None:
    """Spliced from bytes, whatever the values."""
    batch = batch_of([Event(seq, ts_ms, bson.encode({"a": 1}))], source=source, tid=tid)
    assert encode_events(batch, batch.events) == bson.encode(
        {
            "_id": event_id(source.id, tid, seq),
            "ts": bson.DatetimeMS(ts_ms),
            "topic": "shop.order",
            "source": {**source._asdict(), "id": bson.ObjectId(source.id)},
            "data": {"a": 1},
        },
        codec_options=OPTIONS,
    )


def test_many_documents_go_to_a_server_as_they_are_and_the_drivers_log_shows_none_of_them() -> None:
    batch = batch_of([Event(seq, 1000, bson.encode({"a": seq})) for seq in range(3)])
    encoded = encode_events(batch, batch.events)

    assert [each["data"]["a"] for each in bson.decode_all(encoded)] == [0, 1, 2]
    documents = Documents(encoded)
    assert bson.encode(documents) == encoded
    assert documents.identities() == [each["_id"] for each in bson.decode_all(encoded)]
    assert json_util.dumps({"insert": "events", "documents": [documents]}) == '{"insert": "events", "documents": [{}]}'


@pytest.mark.parametrize(
    "document",
    [{}, {"_id": 1, "ts": 2, "topic": 3, "source": 4, "data": 5}, {"_id": b"short", "ts": bson.DatetimeMS(0)}],
)
def test_what_somebody_else_put_into_the_collection_is_left_out(document: dict[str, object]) -> None:
    """It is no event."""
    assert decode_event(RawBSONDocument(bson.encode(document), RAW)) is None


@pytest.mark.parametrize(
    "location",
    [
        "//host:port/db",
        "//me:hush/hush@host/db",
        "//me:hush@hush@host/db",
        "//me:hush@host/db?w=0",
        "//host/?tls=0",
        "",
        "//",
    ],
)
def test_a_uri_that_is_not_understood_is_refused_without_its_password(location: str) -> None:
    """At the start, with the reason."""
    with pytest.raises(StartError) as refused:
        open_store(f"mongodb:{location}", SinkSettings())
    assert str(refused.value).startswith("mongodb:")
    assert "hush" not in str(refused.value)


def test_the_names_of_an_srv_uri_are_looked_up_later() -> None:
    """A DNS that is down is a server that is down."""
    store = open_store("mongodb+srv://nowhere.invalid/db?serverSelectionTimeoutMS=100", SinkSettings())
    with pytest.raises(StoreUnavailable):
        store.books()
    store.close()


def test_a_server_that_is_away_is_unavailable_and_hides_its_password() -> None:
    """For writing and for reading; `sql` is never answered."""
    url = f"mongodb://me:hush@127.0.0.1:{free_port()}/db?serverSelectionTimeoutMS=100"
    store = open_store(url, SinkSettings())
    assert isinstance(store, Reader)
    batch = batch_of([Event(0, 0, bson.encode({}))])
    for ask in (store.books, store.topics, lambda: store.write([batch], []), lambda: list(store.read())):
        with pytest.raises(StoreUnavailable, match="refused") as told:
            ask()
        assert "hush" not in str(told.value)
    with pytest.raises(EventstormError, match="does not answer SQL"):
        store.sql("SELECT 1", max_rows=1, timeout_s=1)
    store.close()
    store.close()


def test_a_writer_starts_without_its_server_and_says_so_once(caplog: pytest.LogCaptureFixture) -> None:
    """And ends in time, with what it could not store counted."""
    store = open_store(f"mongodb://127.0.0.1:{free_port()}/db?serverSelectionTimeoutMS=50", SinkSettings())
    with caplog.at_level(logging.WARNING):
        writer = Writer("mongodb", store, queue_bytes=2**20, commit_s=0.01, batch_events=10)
        writer.start()
        by_s = time.monotonic() + 10
        while not writer.stats().last_error:
            assert time.monotonic() < by_s
            time.sleep(0.01)
        writer.close(timeout_s=1)
    store.close()
    assert [record.message.count("cannot write now") for record in caplog.records] == [1]


def test_the_command_starts_without_its_server(tmp_path: Path) -> None:
    """Ready, and stopped in time, with the password in no line."""
    url = f"mongodb://me:hush@127.0.0.1:{free_port()}/db"
    endpoints = ["--ingress", f"tcp://127.0.0.1:{free_port()}", "--egress", f"tcp://127.0.0.1:{free_port()}"]
    sink = Process(PROGRAM, "sink", url, "--embed-router", *endpoints)
    sink.wait_for("ready")
    sink.wait_for("cannot write now")
    lines = sink.end(2)  # type: ignore[arg-type]
    assert any("stored 0 events" in line for line in lines)
    assert "hush" not in "".join(lines)


def test_checking_a_server_that_is_away_says_so_in_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    """Without its password."""
    port = free_port()
    arguments = argparse.Namespace(what=f"mongodb://me:hush@127.0.0.1:{port}/db", json=False)
    assert check.run(arguments) == 1
    [line] = capsys.readouterr().out.splitlines()
    assert line.startswith(f"mongodb://me:***@127.0.0.1:{port}/db: 127.0.0.1:{port}: ")
    assert "refused" in line


def test_a_fold_is_what_it_says() -> None:
    """Percentiles within 1 %, of negative numbers too."""
    values = [float(number) for number in range(-500, 501)]
    for aggregate, expected in {
        "count": 1001, "sum": 0, "avg": 0, "min": -500, "max": 500, "p50": 0, "p95": 450, "p99": 490
    }.items():  # fmt: skip
        fold = SeriesFold(aggregate, 0, 10, ["a", "none"])
        for value in values:
            fold.add("a", 15_000, value)
            fold.add("b", 15_000, value)
        fold.add("a", 29_999, None)
        [line] = fold.series()
        (first, result), (second, nothing) = line.points
        assert (line.name, first, second) == ("a", 10, 20)
        assert result == pytest.approx(expected, rel=0.0101)
        assert nothing == (0 if aggregate == "count" else None)


def test_names_without_end_take_bounded_memory() -> None:
    """The commonest are still found."""
    counter = NameCounter()
    for number in range(50_000):
        counter.add(f"rare {number}")
        counter.add(f"common {number % 3}")
    assert counter.commonest()[:3] == ["common 0", "common 1", "common 2"]
    assert len(counter._counts) <= 20_000


def test_what_may_come_late_of_many_streams_costs_each_write_little() -> None:
    """A killed sink may have begun events of thousands, and each write of the next looks which of them it has."""
    keys = [StreamKey(number.to_bytes(12, "big"), 0) for number in range(8_000)]
    spans = [Span(key, "shop.order", 0, 10, ("events",)) for key in keys]
    late = Late()
    late.add(spans, time.time() + 600)
    began_s = time.process_time()
    for key in keys:
        late.leave_out(key, [0, 1, 2, 11])
    assert uncovered(spans, spans) == []
    assert time.process_time() - began_s < 1  # more than 6 s, if each were compared with each
    assert [(span.first, span.stop) for span in late.spans()] == [(3, 10)] * len(keys)


def test_what_may_come_late_fits_into_a_document() -> None:
    """Though sinks are killed again and again, or a source leaves out every other number; the oldest is forgotten."""
    late = Late()
    streams = [StreamKey(number.to_bytes(12, "big"), 0) for number in range(3_000)]
    for restart in range(8):
        late.add((Span(key, "t" * 200, restart, restart + 1, ("c" * 255,)) for key in streams), 1000.0 + restart)
        assert len(bson.encode({"late": late.said()})) < 8 * 2**20
    assert {span.first for span in late.spans()} >= {6, 7}
    assert {span.key for span in late.spans() if span.first == 7} == set(streams)
    gapped = StreamKey(b"\1" * 12, 0)
    late.add([Span(gapped, "t" * 200, 0, 2**60, ("c" * 255,))], 2000.0)
    late.leave_out(gapped, range(0, 100_000, 2))
    assert len(bson.encode({"late": late.said()})) < 8 * 2**20
    assert late.spans()[-1].stop == 2**60
    for span in late.spans():
        late.forget(span, 3000.0)
    assert not late
    assert late.said() == []


def test_spans_are_covered_by_those_of_their_stream_alone() -> None:
    one, other = (Span(StreamKey(bytes(12), tid), "shop.order", 2, 5, ("events",)) for tid in (0, 1))
    assert uncovered([one, other], [replace(one, first=1, stop=5)]) == [other]
    assert uncovered([one], [replace(one, first=3)]) == uncovered([one], [replace(one, stop=4)]) == [one]
