"""Copying: everything arrives, once, and equal, whatever happens on the way."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import bson
import duckdb
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bson_documents import documents
from eventstorm.errors import EventstormError, StartError
from eventstorm.wire import Event
from eventstorm_sinks.batch import Batch, Book, Source, StoredEvent
from eventstorm_sinks.copying import Copied, Selection, copy_events
from eventstorm_sinks.settings import SinkSettings
from eventstorm_sinks.stores import Archive, StoreUnavailable, open_archive, open_store, open_to_read
from eventstorm_sinks.stores.conformance import DOCUMENTS, SOURCE, _comparable, batch_of, book_of, events_of
from eventstorm_sinks.stores.where import Condition

KINDS = ("duckdb", "jsonl", "parquet")
OTHER = Source(b"another host", "b", "shop", 2)
DEADLINE_S = 60.0
EVENTSTORM = [sys.executable, "-c", "import sys; from eventstorm.cli import main; sys.exit(main())"]


def place(kind: str, folder: Path, name: str = "events") -> str:
    """Return the URL of a store that is not there yet."""
    return f"{kind}:{folder / f'{name}.{kind}'}"


def fill(url: str, batches: Sequence[Batch], books: Sequence[Book] = ()) -> None:
    """Put events into a store, whichever it is."""
    archive = open_archive(url, SinkSettings())
    archive.insert(batches, books)
    archive.close()


def copy(source_url: str, target_url: str, selection: Selection | None = None) -> Copied:
    """Copy from one store to another."""
    done = Copied()
    source, target = open_to_read(source_url, SinkSettings()), open_archive(target_url, SinkSettings())
    try:
        copy_events(source, target, selection or Selection(), done, patience_s=0)
    finally:
        target.close()
        source.close()
    return done


def stored(url: str) -> list[StoredEvent]:
    """Return what a store has, in its order."""
    readable = open_to_read(url, SinkSettings())
    found = list(readable.read())
    readable.close()
    return found


def books(url: str) -> dict[Any, Book]:
    """Return the books of a store by their streams."""
    readable = open_to_read(url, SinkSettings())
    found = {book.key: book for book in readable.books()}
    readable.close()
    return found


def comparable(events: Sequence[StoredEvent]) -> list[Any]:
    """Return events as something that is equal only if they are."""
    return [(*event[:4], _comparable(event.data)) for event in events]


def numbered(count: int, ts_ms: int = 1_767_225_600_000, topic: str = "shop.order", tid: int = 0) -> Batch:
    """Return a batch of so many events."""
    return batch_of(events_of([bson.encode({"number": each}) for each in range(count)], ts_ms=ts_ms), topic, tid=tid)


_TIMES = st.integers(-62_135_596_800_000, 253_402_300_799_999) | st.integers(0, 5)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
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


@settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
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


@settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
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


def run(*arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
    """Run the command to its end."""
    command = [*EVENTSTORM, "copy", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=DEADLINE_S, **options)


# Copies in small parts, and kills itself after so long.
_KILLED = """
import os, sys, threading
from eventstorm.cli import main
from eventstorm_sinks import copying
copying._MOST_EVENTS = 1_000
threading.Timer(float(sys.argv.pop(1)), lambda: os.kill(os.getpid(), 9)).start()
sys.exit(main())
"""


@pytest.mark.parametrize("kind", KINDS)
def test_killed_at_any_point_and_run_again_nothing_is_there_twice_and_nothing_is_missing(
    tmp_path: Path, kind: str
) -> None:
    source, target = place("jsonl", tmp_path, "from"), place(kind, tmp_path)
    batch = numbered(30_000)
    fill(source, [batch], [book_of(batch)])
    whole = json.loads(run(source, place(kind, tmp_path, "whole"), "--json").stdout)
    for share in (0.5, 0.8, 1.2):
        command = [sys.executable, "-c", _KILLED, str(0.2 + share * whole["seconds"]), "copy", source, target]
        killed = subprocess.run(command, check=False, capture_output=True, timeout=DEADLINE_S)
        assert killed.returncode in (0, -signal.SIGKILL)

    done = run(source, target, "--json")

    assert done.returncode == 0, done.stderr
    counts = json.loads(done.stdout)
    assert counts["copied"] + counts["there"] == counts["read"] == 30_000
    assert comparable(stored(target)) == comparable(stored(source))
    assert books(target) == books(source)


def test_ctrl_c_ends_it_cleanly_and_says_how_to_go_on(tmp_path: Path) -> None:
    source, target = place("jsonl", tmp_path, "from"), place("duckdb", tmp_path)
    batch = numbered(200_000)
    fill(source, [batch], [book_of(batch)])
    child = subprocess.Popen([*EVENTSTORM, "copy", source, target], stderr=subprocess.PIPE, text=True)
    give_up_s = time.monotonic() + DEADLINE_S
    while not (tmp_path / "events.duckdb").exists():
        assert time.monotonic() < give_up_s
        time.sleep(0.01)  # between two looks at another process
    child.send_signal(signal.SIGINT)
    said = child.communicate(timeout=DEADLINE_S)[1]

    assert child.returncode == 130
    assert "broken off: the same command goes on from there: copied" in said
    assert "Traceback" not in said
    assert copy(source, target).read == 200_000


def test_the_command_says_what_is_wrong_and_how(tmp_path: Path) -> None:
    there = place("jsonl", tmp_path)
    fill(there, [numbered(3)])
    missing = tmp_path / "missing"
    wrong = [
        ((there, there), 2, "is both"),
        ((there, "duck:x"), 2, "did you mean 'duckdb'"),
        ((there, "duckdb:x", "--topic", "A b"), 2, "--topic: 'A b' is no topic"),
        ((there, "duckdb:x", "--since", "yesterday"), 2, "--since: 'yesterday' is no time; write it as"),
        ((there, "duckdb:x", "--where", "number"), 2, "--where: 'number': no operator in it; write it as"),
        ((there, "duckdb:x", "--wait", "long"), 2, "--wait: 'long'"),
        ((f"jsonl:{missing}", "duckdb:x"), 3, "there is no such file"),
        ((f"duckdb:{missing}", "jsonl:x"), 3, "there is no store"),
        ((f"parquet:{missing}", "jsonl:x"), 3, "there is no such folder or file"),
        ((there, f"parquet:{tmp_path / 'events.jsonl'}"), 3, "is a file"),
    ]
    for arguments, code, told in wrong:
        done = run(*arguments, cwd=tmp_path)
        assert done.returncode == code, done.stderr
        assert told in done.stderr
        assert len(done.stderr.splitlines()) == 1
    assert not missing.exists()
    sink = subprocess.run([*EVENTSTORM, "sink", "parquet:x"], capture_output=True, text=True, check=False)
    assert sink.returncode == 2
    assert "is for copies" in sink.stderr


def test_a_file_of_something_else_is_told(tmp_path: Path) -> None:
    (tmp_path / "other.jsonl").write_text('hello\n\n{"total": 7}\n')

    done = run(f"jsonl:{tmp_path / 'other.jsonl'}", place("duckdb", tmp_path))

    assert "left out 2 lines that are no events" in done.stderr
    assert "copied 0 events" in done.stderr


def test_events_are_copied_to_standard_output_and_counts_are_said_beside_them(tmp_path: Path) -> None:
    there = place("parquet", tmp_path)
    fill(there, [numbered(3)])

    done = run(there, "jsonl:-", "--where", "number>=1", "--where", "number<2")
    assert [json.loads(line)["data"] for line in done.stdout.splitlines()] == [{"number": 1}]
    done = run(there, "jsonl:-", "--since", "2026-01-01T00:00:01Z", "--until", "2026-01-01 00:00:02")

    [line] = done.stdout.splitlines()
    assert json.loads(line)["data"] == {"number": 1}
    assert "eventstorm copy: copied 1 events" in done.stderr
