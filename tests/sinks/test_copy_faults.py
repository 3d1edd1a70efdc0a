"""Copying into stores that fail, and out of what is no event."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import bson
import duckdb
import pytest

from eventstorm.errors import EventstormError, StartError
from eventstorm.wire import Event
from eventstorm_sinks.batch import Batch, Book, StoredEvent
from eventstorm_sinks.copying import Copied, Selection, copy_events
from eventstorm_sinks.settings import SinkSettings
from eventstorm_sinks.stores import Archive, StoreUnavailable, open_archive, open_to_read
from eventstorm_sinks.stores.conformance import batch_of, book_of, events_of
from eventstorm_sinks.stores.where import Condition
from sinks.copies import books, copy, fill, numbered, place, stored


class Faulty:
    """A target that fails in the ways that it is told."""

    def __init__(self, archive: Archive, failures: Sequence[Exception | None]) -> None:
        self._archive, self._failures = archive, iter(failures)

    def insert(self, batches: Sequence[Batch], books: Sequence[Book]) -> None:
        """Insert, and fail before or after it."""
        failure = next(self._failures, None)
        if isinstance(failure, StoreUnavailable) and "after" in str(failure):
            self._archive.insert(batches, books)
        if failure is not None:
            raise failure
        self._archive.insert(batches, books)

    def read(
        self,
        topics: Sequence[str] = (),
        start_ms: int | None = None,
        stop_ms: int | None = None,
        where: Sequence[Condition] = (),
    ) -> Iterator[StoredEvent]:
        """Read."""
        return self._archive.read(topics, start_ms, stop_ms, where)

    def books(self) -> list[Book]:
        """Return the books."""
        return self._archive.books()

    def close(self) -> None:
        """Close."""
        self._archive.close()


def copy_into_faulty(tmp_path: Path, failures: Sequence[Exception | None], patience_s: float = 30) -> Copied:
    """Copy 1000 events, in parts of 100, into a target that fails."""
    source_url = place("jsonl", tmp_path, "from")
    batch = numbered(1000)
    fill(source_url, [batch], [book_of(batch)])
    source = open_to_read(source_url, SinkSettings())
    target: Any = Faulty(open_archive(place("duckdb", tmp_path), SinkSettings()), failures)
    done = Copied()
    try:
        copy_events(source, target, Selection(), done, patience_s=patience_s)
    finally:
        target.close()
    return done


@pytest.fixture
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Insert a hundred events at a time."""
    monkeypatch.setattr("eventstorm_sinks.copying._MOST_EVENTS", 100)


@pytest.mark.usefixtures("small_parts")
def test_a_target_that_was_away_meanwhile_has_everything_once(tmp_path: Path) -> None:
    away, unsure = StoreUnavailable("away"), StoreUnavailable("hung up after it had inserted")
    done = copy_into_faulty(tmp_path, [None, away, None, None, unsure, away, None, unsure])

    assert (done.read, done.copied, done.there, done.refused) == (1000, 1000, 0, 0)
    assert [bson.decode(each.data)["number"] for each in stored(place("duckdb", tmp_path))] == list(range(1000))
    [book] = books(place("duckdb", tmp_path)).values()
    assert book.stored == 1000


@pytest.mark.usefixtures("small_parts")
def test_a_target_that_stays_away_ends_the_copy_and_a_further_one_goes_on(tmp_path: Path) -> None:
    with pytest.raises(StoreUnavailable, match="the disk is full"):
        copy_into_faulty(tmp_path, [None, None, *[StoreUnavailable("the disk is full")] * 9], patience_s=0)

    done = copy(place("jsonl", tmp_path, "from"), place("duckdb", tmp_path))

    assert (done.copied, done.there) == (800, 200)


@pytest.mark.usefixtures("small_parts")
def test_an_event_that_the_target_cannot_hold_is_left_out_alone_and_counted(tmp_path: Path) -> None:
    source, target = place("jsonl", tmp_path, "from"), place("duckdb", tmp_path)
    events = [*events_of([bson.encode({"number": each}) for each in range(300)])]
    events[150] = Event(150, 2**62, events[150].data)  # a time that DuckDB has not
    batch = batch_of(events)
    fill(source, [batch], [book_of(batch)])

    done, again = copy(source, target), copy(source, target)

    assert (done.copied, done.refused) == (299, 1)
    assert (again.copied, again.there, again.refused, again.books, again.books_left) == (0, 299, 1, 0, 0)
    [book] = books(target).values()
    assert (book.stored, book.refused, book.next_seq - book.first_seq) == (299, 1, 300)


def test_a_target_that_takes_nothing_is_at_fault_itself(tmp_path: Path) -> None:
    with pytest.raises(EventstormError, match="in a row"):
        copy_into_faulty(tmp_path, [ValueError("no")] * 5000)


def test_lines_that_are_no_events_are_left_out_and_forged_identities_are_refused(tmp_path: Path) -> None:
    source, target = place("jsonl", tmp_path, "from"), place("duckdb", tmp_path)
    fill(source, [numbered(10)])
    path = tmp_path / "from.jsonl"
    good = path.read_bytes().splitlines()
    line = json.loads(good[0])
    forged = [
        b"", b"null", b"[" * 5000, b"\xff\xfe", b'{"_id": 5}', b'{"_id": "", "ts": {"$date": "never"}, "topic": "a"}',
        json.dumps({**line, "ts": {"$date": {"$numberLong": "9" * 400}}}).encode(),
        json.dumps({**line, "data": [1]}).encode(),
        json.dumps({**line, "source": {}}).encode(),
        json.dumps({**line, "bson": "!!!!"}).encode(),
        json.dumps({**line, "_id": "zz" * 24}).encode(),
        json.dumps({**line, "_id": "00" * 24}).encode(),
        json.dumps({**line, "_id": ""}).encode(),
        json.dumps({**line, "_id": line["_id"][:24] + "ff" * 12}).encode(),
        json.dumps({**line, "_id": line["_id"][:-1] + "f", "bson": "BgAAAAEA"}).encode(),
        good[0], good[0],
    ]  # fmt: skip
    (tmp_path / "from.jsonl.books").unlink()
    path.write_bytes(b"\n".join([*good, *forged]) + b"\n")

    done = copy(source, target)

    assert len(stored(target)) == 10
    assert (done.copied, done.there) == (10, 0)
    assert 3 <= done.refused <= 5


@pytest.mark.parametrize(
    ("query", "told"),
    [
        ("SELECT 1 AS id", "no events: the column 'id' is INTEGER"),
        (
            "SELECT 'x'::BLOB AS id, now()::TIMESTAMPTZ AS ts, 'a' AS topic, {'id': 'x'::BLOB, 'host': '', 'service': "
            "'', 'pid': 1} AS source, '[1' AS data, NULL::BLOB AS bson",
            "JSON",
        ),
        (None, "No magic bytes"),
    ],
)
def test_parquet_files_that_are_none_of_ours_end_the_copy_and_it_says_why(
    tmp_path: Path, query: str | None, told: str
) -> None:
    path = tmp_path / "strange.parquet"
    path.write_bytes(os.urandom(5000))
    if query:
        duckdb.sql(f"COPY ({query}) TO '{path}' (FORMAT parquet)")

    with pytest.raises(EventstormError, match=told) as failed:
        copy(f"parquet:{path}", place("duckdb", tmp_path))
    assert str(path) in str(failed.value)


def test_a_folder_of_parquet_files_may_have_any_name_and_is_whole_after_a_broken_write(tmp_path: Path) -> None:
    folder = tmp_path / "it's [all] *?{a,b}"
    fill(f"parquet:{folder}", [numbered(5)])
    (folder / "_unfinished-part-000002.parquet").write_bytes(b"PAR1 half of it")

    assert copy(f"parquet:{folder}", place("jsonl", tmp_path)).copied == 5
    fill(f"parquet:{folder}", [numbered(5, topic="shop.visit", tid=1)])
    assert sorted(each.name for each in folder.iterdir()) == ["_lock", "part-000001.parquet", "part-000002.parquet"]
    with pytest.raises(StartError, match="is a file"):
        open_archive(f"parquet:{folder / 'part-000001.parquet'}", SinkSettings())
