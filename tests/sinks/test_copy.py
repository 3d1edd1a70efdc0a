"""Copying: everything arrives, once, and equal, whatever happens on the way."""

from __future__ import annotations

import random
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import bson
import duckdb
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bson_documents import documents
from eventstorm.wire import Event
from eventstorm_sinks.copying import Selection
from eventstorm_sinks.settings import SinkSettings
from eventstorm_sinks.stores import open_store, open_to_read
from eventstorm_sinks.stores.conformance import DOCUMENTS, SOURCE, _comparable, batch_of, book_of, events_of
from eventstorm_sinks.stores.where import Condition
from sinks.copies import KINDS, OTHER, books, comparable, copy, fill, numbered, place, stored

_TIMES = st.integers(-62_135_596_800_000, 253_402_300_799_999) | st.integers(0, 5)


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(st.lists(st.tuples(documents, _TIMES, st.booleans()), max_size=30), st.permutations(KINDS))
def test_documents_of_every_type_come_back_equal_from_a_round_of_all_stores(
    tmp_path_factory: pytest.TempPathFactory, given_events: list[tuple[bytes, int, bool]], kinds: list[str]
) -> None:
    tmp_path = tmp_path_factory.mktemp("round")
    urls = [place(kind, tmp_path, str(number)) for number, kind in enumerate([*kinds, kinds[0]])]
    # Times in any order, as clocks that are set and events of another time give them.
    batches = [
        batch_of(
            [
                Event(seq, ts_ms, data)
                for seq, (data, ts_ms, mine) in enumerate(given_events)
                if mine == (source == OTHER)
            ],
            source=source,
        )
        for source in (SOURCE, OTHER)
    ]
    fill(urls[0], [batch for batch in batches if batch.events], [book_of(each) for each in batches if each.events])
    before = stored(urls[0])

    for source, target in pairwise(urls):
        done = copy(source, target)
        assert (done.copied, done.there, done.refused, done.books_left) == (len(given_events), 0, 0, 0)

    assert len(before) == len(given_events)
    assert comparable(stored(urls[-1])) == comparable(before)
    assert books(urls[-1]) == books(urls[0])


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_document_comes_back_from_each_store(tmp_path: Path, kind: str) -> None:
    fill(place("jsonl", tmp_path, "from"), [batch_of(events_of(list(DOCUMENTS.values())))])

    copy(place("jsonl", tmp_path, "from"), place(kind, tmp_path))

    found = [_comparable(each.data) for each in stored(place(kind, tmp_path))]
    assert found == [_comparable(each) for each in DOCUMENTS.values()]


@pytest.mark.parametrize("kind", KINDS)
def test_copying_again_copies_nothing(tmp_path: Path, kind: str) -> None:
    source, target = place("duckdb", tmp_path, "from"), place(kind, tmp_path)
    batch = numbered(500)
    fill(source, [batch], [book_of(batch)])
    copy(source, target)

    done = copy(source, target)

    assert (done.read, done.copied, done.there, done.books, done.books_left) == (500, 0, 500, 0, 0)
    assert len(stored(target)) == 500


@pytest.mark.parametrize("kind", KINDS)
def test_events_that_were_left_out_before_are_copied_whatever_their_numbers(tmp_path: Path, kind: str) -> None:
    source, target = place("duckdb", tmp_path, "from"), place(kind, tmp_path)
    batch = numbered(100)
    fill(source, [batch], [book_of(batch)])
    fill(target, [replace(batch, events=batch.events[40:60]), replace(batch, events=batch.events[90:])])

    done = copy(source, target)

    assert (done.copied, done.there) == (70, 30)
    assert comparable(stored(target)) == comparable(stored(source))


def test_a_sink_goes_on_with_a_store_that_was_copied(tmp_path: Path) -> None:
    source, target = place("duckdb", tmp_path, "from"), place("jsonl", tmp_path)
    batch = numbered(100)
    fill(source, [batch], [replace(book_of(batch), lost_way=7, next_seq=107)])
    copy(source, target)
    store = open_store(target, SinkSettings())
    [book] = store.books()

    store.write([batch], [replace(book, next_seq=200)])
    store.close()

    assert (book.stored, book.lost_way) == (100, 7)
    assert len(stored(target)) == 100, "sent again, stored once"


@pytest.mark.parametrize("kind", KINDS)
def test_topics_and_times_are_chosen(tmp_path: Path, kind: str) -> None:
    source = place(kind, tmp_path, "from")
    batches = [numbered(10, topic=topic, tid=tid) for tid, topic in enumerate(["shop", "shop.order", "shop.visit"])]
    fill(source, batches, [book_of(batch) for batch in batches])
    begin_ms = batches[0].events[0].ts_ms

    chosen = Selection(("shop.order",), begin_ms + 2_000, begin_ms + 5_000)
    assert copy(source, place("jsonl", tmp_path, "one"), chosen).copied == 3
    assert books(place("jsonl", tmp_path, "one")) == {}, "an account cannot be cut by time"
    assert copy(source, place("jsonl", tmp_path, "two"), Selection(("shop.*",))).copied == 20
    assert {book.topic for book in books(place("jsonl", tmp_path, "two")).values()} == {"shop.order", "shop.visit"}


@pytest.mark.parametrize("kind", KINDS)
def test_events_are_chosen_by_what_is_in_them(tmp_path: Path, kind: str) -> None:
    source, target = place(kind, tmp_path, "from"), place("jsonl", tmp_path, "to")
    fill(source, [numbered(10)], [book_of(numbered(10))])
    low, high = (Selection(where=(Condition("number", sign, 6),)) for sign in ("<", ">="))

    assert copy(source, target, high).copied == 4
    assert books(target) == {}, "an account cannot be cut by conditions"
    done = copy(source, target, low)
    assert (done.copied, done.there) == (6, 0)
    done = copy(source, target)
    assert (done.copied, done.there) == (0, 10)
    assert books(target) == {book_of(numbered(10)).key: book_of(numbered(10))}


def test_reading_a_sinks_file_of_lines_beside_it_gives_what_is_committed(tmp_path: Path) -> None:
    url = place("jsonl", tmp_path)
    store = open_store(url, SinkSettings())
    batch = numbered(10)
    store.write([batch], [book_of(batch)])
    with (tmp_path / "events.jsonl").open("ab") as file:
        file.write(b'{"_id": "of a write that is not finished')

    assert len(stored(url)) == 10
    store.close()


@settings(max_examples=10, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(st.lists(_TIMES, min_size=1, max_size=40), st.integers(0, 2**32))
def test_reading_a_table_some_at_a_time_gives_all_of_it_in_order(
    tmp_path_factory: pytest.TempPathFactory, centres: list[int], seed: int
) -> None:
    """Thousands of events around few moments, centuries apart, as they lie in a table that was written in any order."""
    url = place("duckdb", tmp_path_factory.mktemp("order"))
    chance = random.Random(seed)
    times = [min(chance.choice(centres) + chance.randrange(3_000), 253_402_300_799_999) for _ in range(4_000)]
    data = bson.encode({})
    fill(url, [batch_of([Event(seq, ts_ms, data) for seq, ts_ms in enumerate(times)])])

    found = [(each.ts_ms, each.id) for each in stored(url)]

    assert found == sorted(found)
    assert [ts_ms for ts_ms, _ in found] == sorted(times)


@settings(max_examples=10, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(st.lists(st.integers(-3_000, 3_000), min_size=1, max_size=20))
def test_times_with_microseconds_as_others_write_them_are_read_too(
    tmp_path_factory: pytest.TempPathFactory, times_us: list[int]
) -> None:
    path = tmp_path_factory.mktemp("times") / "others.parquet"
    rows = ", ".join(f"({number}, {time_us})" for number, time_us in enumerate(times_us))
    duckdb.sql(
        f"""
        COPY (
            SELECT from_hex(printf('%024x%08x%016x', 1, 0, seq))::BLOB AS id, make_timestamp(us)::TIMESTAMPTZ AS ts,
                'a' AS topic, {{'id': from_hex(printf('%024x', 1)), 'host': '', 'service': '', 'pid': 1}} AS source,
                '{{}}' AS data, NULL::BLOB AS bson
            FROM (VALUES {rows}) AS given(seq, us)
        ) TO '{path}' (FORMAT parquet)
        """
    )

    assert len(stored(f"parquet:{path}")) == len(times_us)
    readable = open_to_read(f"parquet:{path}", SinkSettings())
    assert len(list(readable.read((), -1, 2))) == sum(-1_000 <= each < 2_000 for each in times_us)
