"""DuckDB when things go wrong: killed in mid-write, the disk full, more than may be kept."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import bson
import duckdb
import pytest

from eventstorm.errors import StartError
from eventstorm.wire import Event, Events
from eventstorm_sinks.batch import Batch, Book, Source
from eventstorm_sinks.settings import SinkSettings
from eventstorm_sinks.stores import StoreUnavailable
from eventstorm_sinks.stores.duckdb import DuckdbStore

SOURCE = Source(b"0123456789ab", "host-1", "shop", 7)
ROWS = 300


def write(store: DuckdbStore, first_seq: int, ts_ms: int = 1_700_000_000_000, rows: int = ROWS) -> None:
    """Write events that do not compress, and the book that goes with them."""
    events = [
        Event(seq, ts_ms + seq, bson.encode({"seq": seq, "noise": os.urandom(200).hex()}))
        for seq in range(first_seq, first_seq + rows)
    ]
    total = first_seq + rows
    store.write(
        [Batch("shop.order", SOURCE, 0, Events.of(events))], [Book("shop.order", SOURCE, 0, 0, total, 0, stored=total)]
    )


def stored(store: DuckdbStore) -> int:
    """Check that events and books tell the same, without a gap, and return how many there are."""
    seqs = [bson.decode(each.data)["seq"] for each in store.read()]
    assert seqs == list(range(len(seqs)))
    assert [book.stored for book in store.books()] == ([len(seqs)] if seqs else [])
    return len(seqs)


WRITER = """
import sys
sys.path.insert(0, sys.argv[2])
from test_duckdb_faults import ROWS, DuckdbStore, SinkSettings, write
store = DuckdbStore(sys.argv[1], SinkSettings())
for first_seq in range(0, 10**9, ROWS):
    write(store, first_seq)
    print(first_seq + ROWS, flush=True)
"""


def test_killed_in_mid_write_it_loses_only_what_was_not_committed_says_what_it_recovered_and_goes_on(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "events.duckdb"
    command = [sys.executable, "-c", WRITER, str(path), str(Path(__file__).parent)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for _ in range(10):
            committed = int(process.stdout.readline())
        process.send_signal(signal.SIGKILL)
        committed = max([committed, *map(int, process.stdout.read().split())])
    store = DuckdbStore(str(path), SinkSettings())
    found = stored(store)
    # The last commit may have been told of by nobody.
    assert found in (committed, committed + ROWS)
    assert "was not closed: took over" in caplog.text
    assert f"now holds {found} events, the last of 2023-11-14 " in caplog.text
    write(store, found)
    store.close()
    caplog.clear()
    store = DuckdbStore(str(path), SinkSettings())
    assert stored(store) == found + ROWS
    assert caplog.text == ""
    store.close()


@pytest.fixture
def resize(tmp_path: Path) -> Iterator[Callable[[int], Path]]:
    """Makes a file system in memory, and changes its size in megabytes."""
    folder = tmp_path / "small"
    folder.mkdir()
    mounted = False

    def mount(megabytes: int) -> Path:
        nonlocal mounted
        options = f"{'remount,' if mounted else ''}size={megabytes}m"
        done = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", options, "none", str(folder)], capture_output=True, text=True
        )
        if done.returncode:
            pytest.skip(f"NOT TESTED: a full disk, since mount needs root: {done.stderr.strip()}")
        mounted = True
        return folder

    yield mount
    if mounted:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def fill(store: DuckdbStore, first_seq: int) -> int:
    """Write until there is no more space, and return the number to go on with."""
    for seq in range(first_seq, first_seq + 1000 * ROWS, ROWS):
        try:
            write(store, seq)
        except StoreUnavailable:
            return seq
    raise AssertionError("the disk did not fill up")


def test_a_full_disk_stops_writes_whole_and_the_same_write_passes_when_there_is_space(
    resize: Callable[[int], Path],
) -> None:
    path = resize(4) / "events.duckdb"
    store = DuckdbStore(str(path), SinkSettings())
    next_seq = fill(store, 0)
    assert next_seq > 0
    with pytest.raises(StoreUnavailable, match="No space left"):
        write(store, next_seq)
    assert stored(store) == next_seq
    resize(40)
    for _ in range(3):
        write(store, next_seq)
        next_seq += ROWS
    assert stored(store) == next_seq
    store.close()
    store = DuckdbStore(str(path), SinkSettings())
    assert stored(store) == next_seq
    store.close()


def test_killed_after_a_full_disk_it_still_has_all_that_was_committed(resize: Callable[[int], Path]) -> None:
    path = resize(4) / "events.duckdb"
    child = f"""
import sys
sys.path.insert(0, {str(Path(__file__).parent)!r})
from test_duckdb_faults import *
store = DuckdbStore({str(path)!r}, SinkSettings())
next_seq = fill(store, 0)
print(next_seq, flush=True)
sys.stdin.readline()
write(store, next_seq)
print(next_seq + ROWS, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""
    command = [sys.executable, "-c", child]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdin is not None
        assert int(process.stdout.readline()) > 0
        resize(40)
        print(file=process.stdin, flush=True)
        committed = int(process.stdout.readline())
    store = DuckdbStore(str(path), SinkSettings())
    assert stored(store) == committed
    store.close()


def test_a_checkpoint_that_finds_the_disk_full_is_survived(resize: Callable[[int], Path]) -> None:
    path = resize(4) / "events.duckdb"
    # Age asks for a removal, and that for a checkpoint, which has to write what is in the log once more.
    store = DuckdbStore(str(path), SinkSettings(keep="1h"))
    now_ms = int(time.time() * 1000)
    next_seq = 0
    write(store, 0, ts_ms=now_ms - 7200_000, rows=10)
    next_seq = 10
    while path.with_name("events.duckdb.wal").stat().st_size < 2.5e6:
        write(store, next_seq, ts_ms=now_ms)
        next_seq += ROWS
    with pytest.raises(StoreUnavailable):
        store.maintain()
    resize(40)
    write(store, next_seq, ts_ms=now_ms)
    next_seq += ROWS
    store.maintain()
    assert [bson.decode(each.data)["seq"] for each in store.read()] == list(range(10, next_seq))
    store.close()


def test_events_older_than_keep_go_and_the_books_stay(tmp_path: Path) -> None:
    store = DuckdbStore(str(tmp_path / "events.duckdb"), SinkSettings(keep="1h"))
    now_ms = int(time.time() * 1000)
    write(store, 0, ts_ms=now_ms - 3_700_000, rows=50)
    write(store, 50, ts_ms=now_ms - 3_500_000, rows=50)
    store.maintain()
    assert [bson.decode(each.data)["seq"] for each in store.read()] == list(range(50, 100))
    assert [book.stored for book in store.books()] == [100]
    write(store, 0, ts_ms=now_ms, rows=50)
    assert len(list(store.read())) == 50, "what was removed is not stored again"
    store.close()


def test_the_file_stays_bounded_by_keep_size_under_continuous_load(tmp_path: Path) -> None:
    path = tmp_path / "events.duckdb"
    keep_bytes = 4_000_000
    store = DuckdbStore(str(path), SinkSettings(keep_size="4MB"))
    sizes, next_seq, written = [], 0, 0
    while written < 10 * keep_bytes:
        for _ in range(2):
            write(store, next_seq, rows=2500)
            next_seq += 2500
            written += 2500 * 450
        store.maintain()
        log_path = Path(f"{path}.wal")
        sizes.append(path.stat().st_size + (log_path.stat().st_size if log_path.exists() else 0))
    # The limit, what comes between two maintenances, and room to rewrite a part.
    assert max(sizes) < 3 * keep_bytes
    seqs = [bson.decode(each.data)["seq"] for each in store.read()]
    assert seqs[-1] == next_seq - 1, "the newest are kept"
    assert seqs == list(range(seqs[0], next_seq)), "the oldest are removed"
    assert len(seqs) * 450 > keep_bytes / 3, "not much more is removed than has to be"
    assert store.books()[0].stored == next_seq
    store.close()


@pytest.mark.parametrize("table", ["events", "books", "streams"])
def test_a_file_with_other_tables_is_not_opened_since_every_event_would_be_refused(tmp_path: Path, table: str) -> None:
    path = tmp_path / "other.duckdb"
    with duckdb.connect(str(path)) as other:
        other.execute(f"CREATE TABLE {table} (topic VARCHAR)")

    with pytest.raises(StartError, match=r"tables that are not those of this version .*nothing was changed"):
        DuckdbStore(str(path), SinkSettings())

    with duckdb.connect(str(path)) as other:
        assert other.execute("SELECT table_name, column_name FROM information_schema.columns").fetchall() == [
            (table, "topic")
        ]
