"""Sinks that share one table of a real Cassandra: at the end emitted = stored + lost, and no event twice."""

from __future__ import annotations

import contextlib
import signal
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from cassandra import OperationTimedOut

from eventstorm_sinks.batch import Book, Source
from eventstorm_sinks.settings import SinkSettings
from eventstorm_sinks.share import Share
from eventstorm_sinks.stores import StoreUnavailable, open_store, open_to_read
from eventstorm_sinks.stores.cassandra import CassandraStore
from eventstorm_sinks.stores.conformance import DOCUMENTS, batch_of, book_of, events_of
from servers.cassandra_server import CassandraServer
from servers.test_cassandra_faults import TABLE, CassandraRig
from sinks.rig import PROGRAM, Process, check, wait_for


class SharingRig(CassandraRig):
    """A rig whose sinks share the events."""

    def share(self, *options: str) -> Process:
        """Start a sink that does a part of the work, or does it in several processes."""
        command = (PROGRAM, "sink", self.store, "--egress", self.egress, "--topic", "test.", *options)
        return self.start(*command, ready="ready: ")

    def wait_until_known(self, streams: int) -> None:
        """Wait until so many streams are in books: a sink that dies before does not know where it began to listen."""
        wait_for(lambda: len(self.booked()) >= streams, lambda: f"{streams} streams: {self.last_words()}", 60)

    def wait_for_events(self) -> None:
        """Wait until each stream has more events, which need not be stored."""
        before = dict(self.said)
        wait_for(lambda: all(self.said[key] >= seq + 30 for key, seq in before.items()), "more events")

    def settled_all(self, sinks: list[Process], *sources: Process) -> dict[tuple[str, str], Book]:
        """Let the sources end, then the sinks; return the books, checked against events and sources."""
        self.stop_emitting()
        figures = self.finish(*sources)
        self.wait_until_told(figures)
        self.wait_until_booked()
        for sink in sinks:
            assert not [line for line in self.end(sink, signal.SIGTERM) if "Traceback" in line]
        store = open_to_read(self.store, SinkSettings())
        books = {(book.source.id.hex(), book.topic): book for book in store.books()}
        check(books, figures)
        stored: Counter[tuple[str, str]] = Counter()
        identities: set[bytes] = set()
        for event in store.read():
            identities.add(event.id)
            stored[event.source.id.hex(), event.topic] += 1
        assert len(identities) == stored.total()
        assert stored == Counter({stream: book.stored for stream, book in books.items()})
        summaries: list[Any] = store.topics()  # type: ignore[attr-defined]
        assert sum(each.events for each in summaries) == stored.total()
        store.close()
        return books


@pytest.fixture
def rig(tmp_path: Path, shared_cassandra: CassandraServer) -> Iterator[SharingRig]:
    """A node, an empty table, and a router."""
    shared_cassandra.empty_table(TABLE)
    with contextlib.closing(SharingRig(tmp_path, shared_cassandra)) as rig:
        rig.router()
        yield rig


def test_two_sinks_share_a_table_through_the_death_of_one(rig: SharingRig) -> None:
    """The other goes on meanwhile, and none takes the other for an intruder."""
    # Each of these has one of the two topics.
    first, second = (rig.share("--share", share, "--share-by", "topic") for share in ("2/4", "4/4"))
    source = rig.source(10**9, 0.2, workers=3)
    rig.wait_until_known(8)
    rig.end(first, signal.SIGKILL)
    rig.wait_for_events()
    first = rig.share("--share", "2/4", "--share-by", "topic")
    rig.wait_until_booked()
    books = rig.settled_all([first, second], source)
    assert sum(book.lost_way for book in books.values()) > 0
    assert not [line for each in (first, second) for line in each.lines if "another sink" in line]


def test_the_number_of_workers_can_be_changed_though_some_died_in_the_middle(rig: SharingRig) -> None:
    """What they had begun is undone by whoever has their streams now, and their accounts go on there."""
    sink = rig.share("--workers", "2")
    source = rig.source(10**9, 0.2, workers=3)
    rig.wait_until_known(8)
    for options in (("--workers", "3"), ("--workers", "2", "--share-by", "topic"), ()):
        rig.kill_with_workers(sink)
        rig.wait_for_events()
        sink = rig.share(*options)
        rig.wait_until_booked()
    books = rig.settled_all([sink], source)
    assert sum(book.lost_way for book in books.values()) > 0


def test_a_sink_that_divides_the_events_in_another_way_keeps_earlier_ones_from_writing(rig: SharingRig) -> None:
    """Though these still run; they say so, and what both have received is stored once."""
    # Each of these has one of the two topics; by source one might have none, and nothing to say.
    halves = [rig.share("--share", share, "--share-by", "topic") for share in ("2/4", "4/4")]
    source = rig.source(10**9, 0.2, workers=3)
    rig.wait_until_known(8)
    thirds = [rig.share("--share", f"{number}/3") for number in (1, 2, 3)]
    for each in halves:
        each.wait_for("another sink has begun to write")
        rig.end(each, signal.SIGTERM)
    rig.wait_until_booked()
    rig.settled_all(thirds, source)


@pytest.fixture
def open_share(table_url: str) -> Iterator[Callable[[str], CassandraStore]]:
    """Return a function that opens a share of one table."""
    stores: list[CassandraStore] = []

    def open_share(share: str) -> CassandraStore:
        stores.append(open_store(table_url, SinkSettings(share=share)))  # type: ignore[arg-type]
        return stores[-1]

    yield open_share
    for store in stores:
        store.close()


def test_a_reader_sees_of_each_share_what_that_one_has_committed(
    open_share: Callable[[str], CassandraStore], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A write of one that is under way does not show up because another has committed since; nor does it later."""
    shares = [Share(1, 2), Share(2, 2)]
    sources = [Source(share.new_source_id(), "host", "service", 1) for share in shares]
    first, second = (open_share(str(share)) for share in shares)
    batches = [replace(batch_of(events_of([DOCUMENTS["plain"]] * 3)), source=source) for source in sources]
    for store, batch in zip((first, second), batches, strict=True):
        store.write([batch], [book_of(batch)])
    reader = open_share("1/1")
    more = replace(batch_of(events_of([DOCUMENTS["plain"]] * 4, seq=3)), source=sources[0])

    def cut_off(*_: object) -> None:
        raise OperationTimedOut("cut off")

    monkeypatch.setattr(first._journal, "commit", cut_off)
    with pytest.raises(StoreUnavailable):
        first.write([more], [])
    last = replace(batch_of(events_of([DOCUMENTS["plain"]] * 2, seq=3)), source=sources[1])
    second.write([last], [book_of(last)])
    assert len(list(reader.read())) == 3 + 3 + 2
    # Who takes over from both undoes it, and has the accounts of both; what is written again is there.
    whole = open_share("1/1")
    assert {book.source.id: (book.first_seq, book.next_seq) for book in whole.books()} == {
        sources[0].id: (3, 3),
        sources[1].id: (5, 5),
    }
    whole.write([more], [])
    assert len(list(reader.read())) == 3 + 3 + 2 + 4
    assert [each.events for each in reader.topics()] == [12]
    with pytest.raises(StoreUnavailable, match="let them share the events"):
        first.write([more], [])


def test_a_stream_that_comes_back_to_a_share_is_not_counted_twice(
    open_share: Callable[[str], CassandraStore], table_url: str
) -> None:
    """Its first account there is added to the sum of its topic; all together say how much is stored."""
    source = Source(Share(1, 2).new_source_id(), "host", "service", 1)
    for number, share in enumerate(("1/2", "1/1", "1/2", "1/1")):
        store = open_share(share)
        first_seq = max((book.first_seq for book in store.books() if book.source == source), default=0)
        assert first_seq == 5 * number
        batch = replace(batch_of(events_of([DOCUMENTS["plain"]] * 5, seq=first_seq)), source=source)
        store.write([batch], [Book(batch.topic, source, 0, first_seq, first_seq + 5, 0, stored=5)])
    readable = open_to_read(table_url, SinkSettings())
    assert sum(book.stored for book in readable.books()) == len(list(readable.read())) == 20
    readable.close()
