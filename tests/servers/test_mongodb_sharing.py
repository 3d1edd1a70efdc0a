"""Sinks that share one collection of a real MongoDB server: at the end emitted = stored + lost, and no event twice."""

from __future__ import annotations

import contextlib
import signal
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from eventstorm_sinks.batch import Book
from eventstorm_sinks.settings import SinkSettings
from eventstorm_sinks.stores import open_store
from servers.mongodb_server import MongoServer
from servers.test_mongodb_faults import MongoRig
from sinks.rig import CATCH_UP_S, PROGRAM, Process, check, wait_for


class SharingRig(MongoRig):
    """A rig whose sinks share the events."""

    def share(self, *options: str) -> Process:
        """Start a sink that does a part of the work, or does it in several processes."""
        command = (PROGRAM, "sink", self.store, "--egress", self.egress, "--topic", "test.", *options)
        return self.start(*command, ready="ready: ")

    def wait_until_known(self, streams: int) -> None:
        """Wait until so many streams are in books: a sink that dies before does not know where it began to listen."""
        wait_for(lambda: len(self.booked()) >= streams, lambda: f"{streams} streams: {self.last_words()}", CATCH_UP_S)

    def settled_all(self, sinks: list[Process], *sources: Process) -> dict[tuple[str, str], Book]:
        """Let the sources end, then the sinks; return the books, checked against events and sources."""
        self.stop_emitting()
        figures = self.finish(*sources)
        self.wait_until_told(figures)
        self.wait_until_booked()
        for sink in sinks:
            assert not [line for line in self.end(sink, signal.SIGTERM) if "Traceback" in line]
        self.store = self.settled_store
        books = self.books()
        check(books, figures)
        store = open_store(self.store, SinkSettings())
        assert Counter(each.id for each in store.read()).most_common(1)[0][1] == 1
        store.close()
        return books


@pytest.fixture
def rig(tmp_path: Path, mongodb: MongoServer) -> Iterator[SharingRig]:
    """A server and a router, running."""
    mongodb.start()
    with contextlib.closing(SharingRig(tmp_path, mongodb)) as rig:
        rig.router()
        yield rig


def test_two_sinks_share_a_collection_through_the_death_of_one(rig: SharingRig) -> None:
    """The other goes on meanwhile, and none takes the other for an intruder."""
    # Each of these has one of the two topics.
    first, second = (rig.share("--share", share, "--share-by", "topic") for share in ("2/4", "4/4"))
    source = rig.steady_source(workers=3, pause_s=0.5)
    rig.wait_until_known(8)
    rig.end(first, signal.SIGKILL)
    rig.wait_for_more()
    first = rig.share("--share", "2/4", "--share-by", "topic")
    rig.wait_until_booked()
    books = rig.settled_all([first, second], source)
    assert sum(book.lost_way for book in books.values()) > 0
    assert not [line for each in (first, second) for line in each.lines if "another sink" in line]


def test_workers_lose_nothing_while_their_server_is_away(rig: SharingRig) -> None:
    """Killed in the middle of their writes, it has what it had acknowledged."""
    sink = rig.share("--workers", "2")
    source = rig.steady_source(workers=3, pause_s=0.5)
    rig.wait_until_known(8)
    rig.server.kill()
    rig.wait_for_more()
    rig.server.start()
    rig.stop_emitting()
    wait_for(lambda: rig.stored() >= sum(rig.said.values()), "all that has passed")
    books = rig.settled_all([sink], source)
    assert all(book.stored == book.next_seq for book in books.values())


def test_the_number_of_workers_can_be_changed_though_some_died_in_the_middle(rig: SharingRig) -> None:
    """What they had begun is finished or undone by whoever has their streams now."""
    sink = rig.share("--workers", "2")
    source = rig.steady_source(workers=3, pause_s=0.5)
    rig.wait_until_known(8)
    for options in (("--workers", "3"), ("--workers", "2", "--share-by", "topic"), ()):
        rig.kill_with_workers(sink)
        rig.wait_for_more()
        sink = rig.share(*options)
        rig.wait_until_booked()
    books = rig.settled_all([sink], source)
    assert sum(book.lost_way for book in books.values()) > 0


def test_a_sink_that_divides_the_events_in_another_way_keeps_earlier_ones_from_writing(rig: SharingRig) -> None:
    """Though these still run; they say so, and what both have received is stored once."""
    # Each of these has one of the two topics; by source one might have none, and nothing to say.
    halves = [rig.share("--share", share, "--share-by", "topic") for share in ("2/4", "4/4")]
    source = rig.steady_source(workers=3, pause_s=0.5)
    rig.wait_until_known(8)
    thirds = [rig.share("--share", f"{number}/3") for number in (1, 2, 3)]
    for each in halves:
        each.wait_for("another sink has begun to write")
        rig.end(each, signal.SIGTERM)
    rig.wait_until_booked()
    rig.settled_all(thirds, source)
