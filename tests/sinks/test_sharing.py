"""Sinks that share a router's events, as workers of one command or as commands of their own: all of it, nothing twice.

Real processes, which are killed, stopped and divided in another way while sources emit.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import time
import urllib.request
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from eventstorm_sinks.batch import Book, StreamKey
from eventstorm_sinks.settings import SinkSettings
from eventstorm_sinks.stores import open_store
from eventstorm_sinks.stores._journal import Journal
from sinks.rig import PROGRAM, Process, Rig, wait_for

# A stop takes ten seconds at most, and half of that on a machine that has nothing else to do.
STOPPED_S = 15


class SharingRig(Rig):
    """A rig whose sinks write a file a share."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.folder = path

    def share(self, *options: str) -> Process:
        """Start a sink that does a part of the work, or does it in several processes."""
        command = (PROGRAM, "sink", self.store, "--egress", self.egress, "--topic", "test.", *options)
        return self.start(*command, ready="ready: ")

    def workers(self, sink: Process) -> list[int]:
        """Return the process ids of a sink's workers, the one that was started last at the end."""
        children = psutil.Process(sink.pid).children()
        return [each.pid for each in sorted(children, key=lambda each: each.create_time())]

    def files(self) -> list[Path]:
        """Return the files of all shares."""
        return sorted(each for each in self.folder.glob("events*.jsonl"))

    def wait_until_known(self, streams: int) -> None:
        """Wait until so many streams are in books: a sink that dies before does not know where it began to listen."""
        wait_for(lambda: len(self.booked()) >= streams, f"{streams} streams in the books")

    def booked(self) -> dict[StreamKey, int]:
        """Return up to which number each stream is accounted for."""
        found: dict[StreamKey, int] = {}
        for path in self.folder.glob("*.jsonl.books"):
            journal = Journal(path)
            journal.close()
            for key, book in journal.books.items():
                found[key] = max(found.get(key, 0), book.next_seq)
        return found

    def all_books(self) -> dict[tuple[str, str], list[Book]]:
        """Return the books of all shares by source and topic; checks that no event is stored twice."""
        books: dict[tuple[str, str], list[Book]] = {}
        identities: Counter[bytes] = Counter()
        stored: Counter[tuple[str, str]] = Counter()
        for number, path in enumerate(self.files()):
            # A copy, since who opens the file of another share takes over what is its own.
            folder = self.folder / f"copy-{number}"
            folder.mkdir()
            for suffix in ("", ".books"):
                shutil.copy(f"{path}{suffix}", f"{folder / 'events.jsonl'}{suffix}")
            store = open_store(f"jsonl:{folder / 'events.jsonl'}", SinkSettings())
            for book in store.books():
                books.setdefault((book.source.id.hex(), book.topic), []).append(book)
            for event in store.read():
                identities[event.id] += 1
                stored[event.source.id.hex(), event.topic] += 1
            store.close()
        assert max(identities.values()) == 1
        for stream, found in books.items():
            assert sum(book.stored for book in found) == stored[stream]
        return books


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[SharingRig]:
    """Nothing started yet."""
    rig = SharingRig(tmp_path)
    yield rig
    rig.close()


def check(books: dict[tuple[str, str], list[Book]], figures: dict[tuple[str, str], dict[str, int]]) -> int:
    """Check that each number that the sources gave is accounted for once; return how many were lost on the way."""
    assert figures
    lost_way = 0
    for stream, counts in figures.items():
        found = sorted(books.get(stream, []), key=lambda book: book.first_seq)
        if not found:
            assert not counts["emitted"]
            continue
        assert [found[0].first_seq, *(book.next_seq for book in found)] == [
            *(book.first_seq for book in found),
            counts["emitted"],
        ], stream
        for book in found:
            lost = book.refused + book.overflowed + book.lost_source + book.lost_way
            assert book.next_seq - book.first_seq == book.stored + lost
            lost_way += book.lost_way
        assert sum(book.lost_source for book in found) == counts["buffer_full"] + counts["unsent"], stream
    return lost_way


@pytest.mark.parametrize(("workers", "by"), [("3", "source"), ("4", "topic")])
def test_workers_store_everything_between_them_and_nothing_twice(rig: SharingRig, workers: str, by: str) -> None:
    """Without a fault nothing is lost, and each has something to do."""
    rig.router()
    sink = rig.share("--workers", workers, "--share-by", by)
    assert any(f"{workers} workers" in line for line in sink.lines)
    figures = rig.finish(rig.source(rounds=3000, workers=7))
    rig.wait_until_told(figures)
    said = rig.end(sink, signal.SIGTERM)
    books = rig.all_books()
    assert check(books, figures) == 0
    total = sum(counts["emitted"] for counts in figures.values())
    assert any(f"received {total} events, lost 0 at sources, 0 on the way" in line for line in said)
    assert any(f"stored {total} events" in line for line in said)
    assert len([path for path in rig.files() if path.stat().st_size]) >= 2


def test_a_worker_that_is_killed_is_started_again_and_its_losses_are_counted(rig: SharingRig) -> None:
    """The other goes on; and the second time it waits longer."""
    rig.router()
    sink = rig.share("--workers", "2")
    source = rig.steady_source(workers=5)
    rig.wait_until_known(12)
    for victim, wait in ((0, "0.2"), (0, "0.2"), (1, "0.4")):
        workers = rig.workers(sink)
        told = len(sink.lines)
        os.kill(workers[victim], signal.SIGKILL)
        wait_for(lambda told=told: len(sink.lines) > told, "a word about it")
        assert (
            f"by signal 9; what it had not stored is lost, and counted. It starts again in {wait} s" in sink.lines[-1]
        )
        wait_for(lambda: len(rig.workers(sink)) == 2, "another worker")
        assert workers[1 - victim] in rig.workers(sink)
    rig.wait_until_booked()
    rig.stop_emitting()
    figures = rig.finish(source)
    rig.wait_until_told(figures)
    rig.end(sink, signal.SIGTERM)
    assert check(rig.all_books(), figures) > 0


def test_two_sinks_share_a_router_through_the_death_of_one(rig: SharingRig) -> None:
    """What a sink would have stored while it was away is lost on the way, and told when it is back."""
    rig.router()
    # Each of these has one of the two topics.
    first, second = (rig.share("--share", share, "--share-by", "topic") for share in ("2/4", "4/4"))
    source = rig.steady_source(workers=5)
    rig.wait_until_known(12)
    rig.end(first, signal.SIGKILL)
    rig.wait_for_more()
    first = rig.share("--share", "2/4", "--share-by", "topic")
    rig.wait_until_booked()
    rig.stop_emitting()
    figures = rig.finish(source)
    rig.wait_until_told(figures)
    for sink in (first, second):
        rig.end(sink, signal.SIGTERM)
    assert check(rig.all_books(), figures) > 0


@pytest.mark.parametrize(
    "ways",
    [
        (("--workers", "2"), ("--workers", "3"), ()),
        ((), ("--workers", "4", "--share-by", "topic"), ("--workers", "2")),
    ],
    ids=["two, three, one", "one, by topic, by source"],
)
def test_the_number_of_workers_can_be_changed(rig: SharingRig, ways: tuple[tuple[str, ...], ...]) -> None:
    """Each stream goes on where its last account ends, wherever that is; what came in between is lost and counted."""
    rig.router()
    sink = rig.share(*ways[0])
    source = rig.steady_source(workers=5)
    rig.wait_until_known(12)
    for options in ways[1:]:
        rig.end(sink, signal.SIGTERM)
        rig.wait_for_more()
        sink = rig.share(*options)
        rig.wait_until_booked()
    rig.stop_emitting()
    figures = rig.finish(source)
    rig.wait_until_told(figures)
    rig.end(sink, signal.SIGTERM)
    assert check(rig.all_books(), figures) > 0


def test_a_sink_whose_share_another_writes_does_not_start(rig: SharingRig) -> None:
    """As their divisions overlap, some events would be stored twice."""
    rig.router()
    sink = rig.share("--share", "1/2")
    other = Process(PROGRAM, "sink", rig.store, "--egress", rig.egress, "--share", "3/4")
    said = other.end()
    assert len(said) == 1
    assert "events-1of2.jsonl: another process writes there" in said[0]
    rig.end(rig.share("--share", "2/4"), signal.SIGTERM)
    rig.end(sink, signal.SIGTERM)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_workers_end_with_their_owner(rig: SharingRig, number: signal.Signals) -> None:
    """On a signal, in time, with nothing but what it has to say."""
    sink = rig.share("--workers", "2")
    workers = rig.workers(sink)
    began_s = time.monotonic()
    said = rig.end(sink, number)
    assert time.monotonic() - began_s < STOPPED_S
    assert not any(psutil.pid_exists(each) for each in workers)
    assert [line.partition(":")[0] for line in said] == ["eventstorm sink"] * 3


def test_each_worker_serves_a_page_of_its_share(rig: SharingRig) -> None:
    """The first line tells where."""
    sink = rig.share("--workers", "2", "--http", "127.0.0.1:0")
    pages = re.findall(r"http://[\d.:]+", sink.lines[0])
    assert len(set(pages)) == 2
    for page in pages:
        with urllib.request.urlopen(f"{page}/api/ledger", timeout=20) as answer:
            assert json.load(answer)["streams"] == []
    rig.end(sink, signal.SIGTERM)


def test_workers_do_not_outlive_an_owner_that_is_killed(rig: SharingRig) -> None:
    """They store what they have, and end."""
    rig.router()
    sink = rig.share("--workers", "2")
    source = rig.steady_source(workers=1)
    rig.wait_until_known(4)
    workers = rig.workers(sink)
    rig.end(sink, signal.SIGKILL)
    wait_for(lambda: not any(psutil.pid_exists(each) for each in workers), "their end", STOPPED_S)
    rig.stop_emitting()
    rig.finish(source)


def test_a_stopped_worker_does_not_hold_up_the_stop(rig: SharingRig) -> None:
    """It is killed when its time is up, and the owner says so."""
    sink = rig.share("--workers", "2")
    stopped = rig.workers(sink)[0]
    os.kill(stopped, signal.SIGSTOP)
    said = rig.end(sink, signal.SIGTERM)
    assert any("does not stop within" in line for line in said)
    assert not psutil.pid_exists(stopped)


@pytest.mark.parametrize(
    ("arguments", "told", "code"),
    [
        (
            ("duckdb:events.duckdb", "--workers", "2"),
            "one process holds a DuckDB file; let them write to mongodb://",
            2,
        ),
        (("jsonl:-", "--workers", "2"), "standard output keeps no books", 2),
        (("jsonl:/nowhere/at/all.jsonl", "--workers", "2"), "No such file", 3),
        (("jsonl:x", "--workers", "0"), "sink.workers: 0 is not from 1 to 64", 2),
        (("jsonl:x", "--share", "3/2"), "write the second of three as 2/3", 2),
        (("jsonl:x", "--share", "1/2", "--share-by", "host"), "'host' is none of source, topic", 2),
    ],
)
def test_what_cannot_be_shared_is_told_in_one_line(
    arguments: tuple[str, ...], told: str, code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With what to do instead."""
    monkeypatch.chdir(tmp_path)
    process = Process(PROGRAM, "sink", *arguments)
    [line] = process.end()
    assert told in line
    assert process.code == code
