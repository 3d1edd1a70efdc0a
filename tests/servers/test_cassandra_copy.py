"""Copying into Cassandra and out of it."""

from __future__ import annotations

from pathlib import Path

from eventstorm_sinks.settings import SinkSettings
from eventstorm_sinks.stores import open_store
from eventstorm_sinks.stores.conformance import DOCUMENTS, batch_of, book_of, events_of
from sinks.copies import books, comparable, copy, fill, numbered, place, stored


def test_documents_of_every_type_come_back_equal_once(table_url: str, tmp_path: Path) -> None:
    batch = batch_of(events_of(list(DOCUMENTS.values())))
    fill(place("duckdb", tmp_path), [batch], [book_of(batch)])

    assert copy(place("duckdb", tmp_path), table_url).copied == len(DOCUMENTS)
    assert copy(place("duckdb", tmp_path), table_url).copied == 0
    assert copy(table_url, place("jsonl", tmp_path)).copied == len(DOCUMENTS)

    assert comparable(stored(place("jsonl", tmp_path))) == comparable(stored(place("duckdb", tmp_path)))
    assert books(place("jsonl", tmp_path)) == books(table_url) == books(place("duckdb", tmp_path))


def test_copying_from_it_does_not_take_the_place_of_its_sink(table_url: str, tmp_path: Path) -> None:
    sink = open_store(table_url, SinkSettings())
    batch, more = numbered(1000), numbered(5, topic="shop.new", tid=2)
    sink.write([batch], [book_of(batch)])

    assert copy(table_url, place("duckdb", tmp_path)).copied == 1000

    sink.write([more], [book_of(more)])
    sink.close()
    assert len(stored(table_url)) == 1005
