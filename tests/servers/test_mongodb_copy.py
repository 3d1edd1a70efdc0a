"""Copying into MongoDB and out of it."""

from __future__ import annotations

import json
import subprocess
import time
from itertools import pairwise
from pathlib import Path

import bson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pymongo import MongoClient

from bson_documents import common_documents
from eventstorm_sinks.copying import Copied, Selection, copy_events
from eventstorm_sinks.settings import SinkSettings
from eventstorm_sinks.stores import open_archive, open_store, open_to_read
from eventstorm_sinks.stores.conformance import batch_of, book_of, events_of
from servers.mongodb_server import MongoServer
from servers.test_mongodb_conformance import KNOWN
from sinks.copies import EVENTSTORM, books, comparable, copy, fill, numbered, place, stored
from sinks.rig import wait_for


@settings(max_examples=10, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(st.lists(common_documents, max_size=30))
def test_documents_come_back_equal_from_a_round_of_all_stores(
    shared_mongodb: MongoServer, tmp_path_factory: pytest.TempPathFactory, given_documents: list[bytes]
) -> None:
    tmp_path = tmp_path_factory.mktemp("round")
    mongodb = f"{shared_mongodb.url}/round_{time.time_ns()}.events"
    urls = [
        place("duckdb", tmp_path),
        place("jsonl", tmp_path),
        mongodb,
        place("parquet", tmp_path),
        place("duckdb", tmp_path, "2"),
    ]
    batch = batch_of(events_of([*given_documents, *KNOWN.values()]))
    fill(urls[0], [batch], [book_of(batch)])

    for source, target in pairwise(urls):
        assert copy(source, target).copied == len(batch.events)

    assert comparable(stored(urls[-1])) == comparable(stored(urls[0]))
    assert books(mongodb) == books(urls[-1]) == books(urls[0])
    assert copy(urls[0], mongodb).copied == 0


def test_copying_beside_a_sink_does_not_take_its_place(database_url: str, tmp_path: Path) -> None:
    sink = open_store(f"{database_url}.events", SinkSettings())
    batch = numbered(10)
    sink.write([batch], [book_of(batch)])
    other = numbered(10, topic="shop.visit", tid=1)
    fill(place("jsonl", tmp_path), [other], [book_of(other)])

    copy(f"{database_url}.events", place("duckdb", tmp_path))
    copy(place("jsonl", tmp_path), f"{database_url}.events")

    more = numbered(5, topic="shop.new", tid=2)
    sink.write([more], [book_of(more)])
    sink.close()
    assert len(stored(f"{database_url}.events")) == 25
    assert len(stored(place("duckdb", tmp_path))) == 10
    assert len(books(f"{database_url}.events")) == 3


def test_a_server_that_is_killed_meanwhile_and_comes_back_has_everything_once(
    mongodb: MongoServer, tmp_path: Path
) -> None:
    mongodb.start()
    source, target = place("jsonl", tmp_path), f"{mongodb.url}/copied.events"
    batch = numbered(60_000)
    fill(source, [batch], [book_of(batch)])
    child = subprocess.Popen([*EVENTSTORM, "copy", source, target, "--json"], stdout=subprocess.PIPE, text=True)
    try:
        with MongoClient[dict[str, object]](mongodb.url) as outsider:
            wait_for(outsider.copied.events.estimated_document_count, "events")
        mongodb.kill()
        mongodb.start()

        told = child.communicate(timeout=120)[0]
    finally:
        child.kill()

    assert child.returncode == 0
    counts = json.loads(told)
    assert (counts["copied"], counts["read"]) == (60_000, 60_000)
    assert comparable(stored(target)) == comparable(stored(source))
    assert books(target) == books(source)


def test_a_server_that_is_not_there_ends_the_copy_with_its_name(tmp_path: Path) -> None:
    fill(place("jsonl", tmp_path), [numbered(3)])

    url = "mongodb://me:secret@127.0.0.1:1/x.y?serverSelectionTimeoutMS=50"
    for arguments in ((place("jsonl", tmp_path), url), (url, place("jsonl", tmp_path))):
        command = [*EVENTSTORM, "copy", *arguments, "--wait", "0"]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
        assert done.returncode == 1
        assert "mongodb://me:***@127.0.0.1:1/x.y" in done.stderr
        assert "the same command goes on" in done.stderr
        assert "secret" not in done.stderr


def test_an_event_that_the_server_hangs_up_on_is_left_out_alone(database_url: str, tmp_path: Path) -> None:
    source = place("jsonl", tmp_path)
    poison = bson.encode({"code": bson.Code("x", {"y": 1})})
    fill(source, [batch_of(events_of([bson.encode({"number": 1}), poison, bson.encode({"number": 3})]))])
    done = Copied()
    reader, target = open_to_read(source, SinkSettings()), open_archive(f"{database_url}.events", SinkSettings())

    copy_events(reader, target, Selection(), done, patience_s=0)

    target.close()
    assert (done.copied, done.refused) == (2, 1)
