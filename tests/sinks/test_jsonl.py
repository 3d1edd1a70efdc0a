"""JSON lines: readable, whole after a crash or on a full disk, and bounded where asked for."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import bson
import pytest

from eventstorm.errors import StartError
from eventstorm.wire import Event, Events
from eventstorm_sinks.batch import Batch, Book, Source
from eventstorm_sinks.settings import SinkSettings
from eventstorm_sinks.stores._lines import encode_line
from eventstorm_sinks.stores._sort import Keyed, sort_lines
from eventstorm_sinks.stores.jsonl import JsonlStore

SOURCE = Source(b"s" * 12, "host", "shop", 7)


def batch(start: int, stop: int, size: int = 0, ts_ms: int = 0) -> Batch:
    """Return a batch of numbered events."""
    return Batch(
        "shop.order",
        SOURCE,
        0,
        Events.of(
            Event(seq, ts_ms + seq, bson.encode({"number": seq, "filling": "x" * size})) for seq in range(start, stop)
        ),
    )


def book(stored: int) -> Book:
    """Return the book of so many events."""
    return Book("shop.order", SOURCE, 0, 0, stored, 0, stored=stored)


def numbers(store: JsonlStore) -> list[int]:
    """Return the numbers of the events that are there."""
    return [bson.decode(event.data)["number"] for event in store.read()]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where the store is."""
    return tmp_path / "events.jsonl"


@pytest.fixture
def open_store(path: Path) -> Iterator[Callable[..., JsonlStore]]:
    """Return a function that opens the store, after closing it if it is open."""
    stores: list[JsonlStore] = []

    def open_again(**settings: str) -> JsonlStore:
        for store in stores:
            store.close()
        stores.append(JsonlStore(str(path), SinkSettings(**settings)))  # type: ignore[arg-type]
        return stores[-1]

    yield open_again
    for store in stores:
        store.close()


def test_a_line_is_extended_json_that_people_can_read() -> None:
    """Plain values look plain; only what would come back as something else does not."""
    data = bson.encode({"total": 42.5, "items": 3, "big": 2**40, "small": bson.Int64(5), "at": bson.DatetimeMS(1)})
    line = encode_line(Batch("shop.order", SOURCE, 1, Events.of([])), Event(2, 1_767_225_600_000, data))
    assert line.endswith(b"}\n")
    assert json.loads(line) == {
        "_id": "73" * 12 + "00000001" + "0000000000000002",
        "ts": {"$date": "2026-01-01T00:00:00.000Z"},
        "topic": "shop.order",
        "source": {"id": "73" * 12, "host": "host", "service": "shop", "pid": 7},
        "data": {
            "total": 42.5,
            "items": 3,
            "big": 2**40,
            "small": {"$numberLong": "5"},
            "at": {"$date": "1970-01-01T00:00:00.001Z"},
        },
    }


def test_what_was_not_written_to_its_end_is_cut_off_and_said(
    path: Path, open_store: Callable[..., JsonlStore], caplog: pytest.LogCaptureFixture
) -> None:
    """A torn line, and whole ones of a write that was not committed."""
    store = open_store()
    store.write([batch(0, 10)], [book(10)])
    store.close()
    with path.open("ab") as file:
        file.write(encode_line(batch(10, 11), batch(10, 11).events[0]) + b'{"_id":"73')
    store = open_store()
    assert "cut off" in caplog.text
    store.write([batch(10, 12)], [book(12)])
    assert numbers(store) == list(range(12))
    assert all(map(json.loads, path.read_text().splitlines()))


def test_a_torn_journal_counts_up_to_its_last_whole_record(path: Path, open_store: Callable[..., JsonlStore]) -> None:
    """The events of the torn one were not committed."""
    store = open_store()
    store.write([batch(0, 10)], [book(10)])
    store.write([batch(10, 20)], [book(20)])
    store.close()
    journal = Path(f"{path}.books")
    os.truncate(journal, journal.stat().st_size - 5)
    store = open_store()
    assert store.books() == [book(10)]
    store.write([batch(10, 30)], [book(30)])
    store = open_store()
    assert store.books() == [book(30)]
    assert numbers(store) == list(range(30))


def test_a_file_without_a_journal_is_adopted(path: Path, open_store: Callable[..., JsonlStore]) -> None:
    """Its events are known by their identities; lines of others are let be."""
    store = open_store()
    store.write([batch(0, 10)], [book(10)])
    store.close()
    Path(f"{path}.books").unlink()
    with path.open("ab") as file:
        file.write(b'{"something": "else"}\n{"_id":"73')
    store = open_store()
    store.write([batch(5, 15)], [])
    assert numbers(store) == list(range(15))


def test_the_journal_does_not_grow_without_bound(
    path: Path, open_store: Callable[..., JsonlStore], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is written anew with what still counts."""
    monkeypatch.setattr("eventstorm_sinks.stores._journal.COMPACT_BYTES", 2000)
    store = open_store()
    for number in range(100):
        store.write([batch(number, number + 1)], [book(number + 1)])
        assert Path(f"{path}.books").stat().st_size < 4000
    store = open_store()
    assert store.books() == [book(100)]
    assert numbers(store) == list(range(100))


def test_a_full_disk_is_survived(tmp_path: Path) -> None:
    """Whole lines are there, nothing else; when there is room again, all goes on."""
    limit = 200_000
    child = f"""
import resource, signal
from eventstorm_sinks.stores import StoreUnavailable
from tests_sinks_jsonl import JsonlStore, SinkSettings, batch, book, numbers
resource.setrlimit(resource.RLIMIT_FSIZE, ({limit}, resource.RLIM_INFINITY))
store = JsonlStore({str(tmp_path / "events.jsonl")!r}, SinkSettings())
written = 0
try:
    while True:
        store.write([batch(written, written + 100)], [book(written + 100)])
        written += 100
except StoreUnavailable as error:
    assert "File too large" in str(error), error
assert 0 < written < 10000, written
assert numbers(store) == list(range(written))
try:
    store.write([batch(written, written + 100)], [book(written + 100)])
    raise SystemExit("the disk is not full")
except StoreUnavailable:
    pass
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
store.write([batch(written, written + 100)], [book(written + 100)])
store.close()
store = JsonlStore({str(tmp_path / "events.jsonl")!r}, SinkSettings())
assert numbers(store) == list(range(written + 100))
assert store.books() == [book(written + 100)]
store.close()
"""
    (tmp_path / "tests_sinks_jsonl.py").write_text(Path(__file__).read_text("utf-8"), "utf-8")
    environment = os.environ | {"PYTHONPATH": str(tmp_path)}
    subprocess.run([sys.executable, "-c", child], check=True, timeout=30, env=environment)


def test_two_processes_cannot_write_one_file(path: Path, open_store: Callable[..., JsonlStore]) -> None:
    """The second one is told so, and can when the first has gone."""
    store = open_store()
    with pytest.raises(StartError, match="another process writes there"):
        JsonlStore(str(path), SinkSettings())
    store.close()
    JsonlStore(str(path), SinkSettings()).close()


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    """With the reason."""
    with pytest.raises(StartError, match=r"none.*No such file"):
        JsonlStore(str(tmp_path / "none" / "events.jsonl"), SinkSettings())


def test_the_oldest_go_when_there_is_more_than_asked_for(path: Path, open_store: Callable[..., JsonlStore]) -> None:
    """The rest can be read in one, the newest are never touched, and nothing that is removed comes again."""
    store = open_store(keep_size="100KB")
    for start in range(0, 2000, 20):
        store.write([batch(start, start + 20, size=100)], [book(start + 20)])
    store.maintain()
    total = sum(each.stat().st_size for each in path.parent.glob("events.jsonl*") if each.suffix != ".books")
    assert 60_000 < total < 115_000
    there = numbers(store)
    assert there == list(range(there[0], 2000))
    store = open_store(keep_size="100KB")
    store.write([batch(0, 2001, size=100)], [])
    assert numbers(store)[-1] == 2000
    assert numbers(store)[0] >= there[0]


def test_what_is_too_old_goes(path: Path, open_store: Callable[..., JsonlStore]) -> None:
    """By whole segments, a tenth of the time each."""
    store = open_store(keep="10s")
    store.write([batch(0, 10)], [])
    store = open_store(keep="10s")  # its first event says how old the file is
    store.write([batch(10, 20, ts_ms=time.time_ns() // 1_000_000)], [])
    assert numbers(store) == list(range(20))
    [segment] = path.parent.glob("events.jsonl.0*")
    os.utime(segment, (0, 0))
    store.maintain()
    assert numbers(store) == list(range(10, 20))


def test_reading_sorts_in_bounded_memory() -> None:
    """Runs go to temporary files; too many of these are merged."""
    events = [Event(seq, (seq * 7919) % 1000, bson.encode({"number": seq})) for seq in range(1000)]
    lines = [encode_line(Batch("a", SOURCE, 0, Events.of([])), event) for event in events]
    keyed = [Keyed(event.ts_ms, line[8:56].decode(), line) for event, line in zip(events, lines, strict=True)]
    with contextlib.ExitStack() as stack:
        assert list(sort_lines(keyed, stack, run_bytes=1500)) == sorted(keyed)


def test_standard_output_is_written_and_nothing_is_read_back(capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    """It has no books."""
    store = JsonlStore("-", SinkSettings())
    store.write([batch(0, 3)], [book(3)])
    assert [json.loads(line)["data"]["number"] for line in capfdbinary.readouterr().out.splitlines()] == [0, 1, 2]
    assert store.books() == []
    assert list(store.read()) == []
    store.close()


def test_a_full_device_is_unavailable() -> None:
    """The writer tries again."""
    with open("/dev/full", "wb") as full:
        run = subprocess.run(
            [sys.executable, "-c", _PRINT], stdout=full, stderr=subprocess.PIPE, text=True, timeout=30, check=False
        )
    assert "unavailable" in run.stderr


_PRINT = f"""
import os, sys
from eventstorm.wire import Event, Events
from eventstorm_sinks.batch import Batch, Source
from eventstorm_sinks.settings import SinkSettings
from eventstorm_sinks.stores import StoreUnavailable
from eventstorm_sinks.stores.jsonl import JsonlStore

try:
    JsonlStore("-", SinkSettings()).write(
        [Batch("a", Source(b"s" * 12, "", "", 0), 0, Events.of([Event(0, 0, {bson.encode({})!r})]))], []
    )
except StoreUnavailable as error:
    print("unavailable:", error, file=sys.stderr, flush=True)
    os._exit(0)
"""
