"""The ledger through outages of a real MongoDB server: at the end emitted = stored + lost, and no event twice."""

from __future__ import annotations

import contextlib
import signal
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import parse_qsl

import pytest
from pymongo.errors import PyMongoError

from eventstorm_sinks.batch import Book, StreamKey
from eventstorm_sinks.settings import SinkSettings
from eventstorm_sinks.stores import open_store
from servers.mongodb_server import MongoServer, Server
from sinks.rig import SOURCE, Process, Rig, check, wait_for


class MongoRig(Rig):
    """A rig whose sink writes to MongoDB."""

    server: MongoServer

    def __init__(self, path: Path, server: Server) -> None:
        super().__init__(path)
        if isinstance(server, MongoServer):
            self.server = server
        self.store = f"{server.url}/faults?{server.options}"
        # With time enough for a busy machine.
        self.settled_store = f"{server.url}/faults?serverSelectionTimeoutMS=20000"
        limits = {name: int(value) for name, value in parse_qsl(server.options)}
        self.outsider = server.client(**limits, connect=False)

    def calm_source(self, rounds: int = 10**9, size: int = 50) -> Process:
        """Start a source that emits until told, as much as such a server keeps up with on a busy machine too."""
        return self.source(rounds, 0.2, size)

    def stored(self) -> int:
        """Return how many events are stored, as an outsider counts them; 0 while the server is away."""
        try:
            return self.outsider.faults.events.estimated_document_count()
        except PyMongoError:
            return 0

    def booked(self) -> dict[StreamKey, int]:
        """Return up to which number each stream is accounted for."""
        try:
            found = list(self.outsider.faults.events_books.find({"book": {"$exists": True}}))
        except PyMongoError:  # the server is away, or busy
            return {}
        return {
            StreamKey(each["_id"][:12], int.from_bytes(each["_id"][12:], "big")): int(each["book"]["next_seq"])
            for each in found
        }

    def close(self) -> None:
        """End what still runs."""
        self.outsider.close()
        super().close()

    def settled(self, sink: Process, *sources: Process) -> dict[tuple[str, str], Book]:
        """Let the sources end, then the sink; return the books, checked against the events and the sources' figures."""
        figures = self.finish(*sources)
        self.wait_until_told(figures)
        self.wait_until_booked()  # the server may be behind by more than a sink waits for when it is told to end
        said = self.end(sink, signal.SIGTERM)
        self.store = self.settled_store
        books = self.books()
        check(books, figures)
        store = open_store(self.store, SinkSettings())
        assert Counter(each.id for each in store.read()).most_common(1)[0][1] == 1
        store.close()
        assert not [line for line in said if "Traceback" in line]
        return books


@pytest.fixture
def rig(tmp_path: Path, mongodb: MongoServer) -> Iterator[MongoRig]:
    """Nothing started yet."""
    with contextlib.closing(MongoRig(tmp_path, mongodb)) as rig:
        yield rig


def test_a_server_that_comes_after_the_sink_gets_everything(rig: MongoRig) -> None:
    """The sink receives and counts meanwhile, and says what is amiss, of each kind of error once."""
    rig.router()
    sink = rig.sink()
    source = rig.calm_source()
    sink.wait_for("cannot write now")
    source.wait_for('"at": 5000')
    rig.server.start()
    wait_for(rig.stored, "a first event")
    rig.stop_emitting()
    books = rig.settled(sink, source)
    assert all(book.stored == book.next_seq for book in books.values())
    said = [line for line in sink.lines if "cannot write now" in line]
    assert len(said) == len(set(said))


def test_a_server_that_is_killed_and_comes_back_loses_nothing(rig: MongoRig) -> None:
    """Again and again, in the middle of writes; what it had acknowledged it still has."""
    rig.server.start()
    rig.router()
    sink = rig.sink()
    source = rig.calm_source()
    for _ in range(2):
        before = rig.stored()
        wait_for(lambda before=before: rig.stored() > before + 1000, "more events")
        rig.server.kill()
        at = len(source.lines)
        wait_for(lambda at=at: len(source.lines) > at + 10, "events while there is no server")
        rig.server.start()
    rig.stop_emitting()
    books = rig.settled(sink, source)
    assert all(book.stored == book.next_seq for book in books.values())


def test_a_server_that_pauses_gets_nothing_twice(rig: MongoRig) -> None:
    """The sink takes it for gone and sends again what the server then finds on its old connections too."""
    rig.server.start()
    rig.router()
    sink = rig.sink()
    source = rig.calm_source()
    wait_for(lambda: rig.stored() > 1000, "events")
    rig.server.pause()
    sink.wait_for("cannot write now")
    paused_s = time.monotonic()
    wait_for(lambda: time.monotonic() > paused_s + 3, "several attempts")
    rig.server.go_on()
    rig.stop_emitting()
    books = rig.settled(sink, source)
    assert all(book.stored == book.next_seq for book in books.values())


@pytest.mark.parametrize(
    ("command", "code", "text"),
    [
        ("insert", 13, "not authorized on faults to execute command insert"),
        ("insert", 14031, "out of disk space"),
        ("update", 10107, "not primary"),
        ("insert", 10107, "not primary"),
    ],
)
def test_an_error_that_passes_loses_nothing(rig: MongoRig, command: str, code: int, text: str) -> None:
    """Credentials that are revoked and given again, a disk that is full, a primary that steps down."""
    rig.server.start()
    rig.router()
    sink = rig.sink()
    source = rig.calm_source()
    wait_for(lambda: rig.stored() > 1000, "events")
    rig.server.fail(command, code, text)
    sink.wait_for(text)
    rig.server.mend()
    rig.stop_emitting()
    books = rig.settled(sink, source)
    assert all(book.stored == book.next_seq for book in books.values())


def test_a_sink_whose_queue_is_full_counts_what_it_drops(rig: MongoRig, monkeypatch: pytest.MonkeyPatch) -> None:
    """An outage that is longer than the queue."""
    monkeypatch.setenv("EVENTSTORM_SINK_QUEUE_BYTES", str(2**20))
    rig.server.start()
    rig.router()
    sink = rig.sink()
    source = rig.calm_source(size=1000)
    wait_for(lambda: rig.stored() > 1000, "events")
    rig.server.kill()
    sink.wait_for("the newest events are lost to it")
    rig.server.start()
    rig.stop_emitting()
    books = rig.settled(sink, source)
    assert sum(book.overflowed for book in books.values()) > 0
    assert not any(book.lost_way for book in books.values())


def test_a_sink_that_is_killed_goes_on_from_its_books(rig: MongoRig) -> None:
    """What it had inserted without having committed it, is removed, and lost on the way like what came meanwhile."""
    rig.server.start()
    rig.router()
    sink = rig.sink()
    source = rig.calm_source()
    wait_for(lambda: rig.stored() > 1000, "events")
    for _ in range(2):
        rig.end(sink, signal.SIGKILL)
        at = len(source.lines)
        wait_for(lambda at=at: len(source.lines) > at + 20, "events while there is no sink")
        before = rig.stored()
        sink = rig.sink()
        wait_for(lambda before=before: rig.stored() > before + 1000, "more events")
    rig.stop_emitting()
    books = rig.settled(sink, source)
    assert sum(book.lost_way for book in books.values()) > 0


def test_a_sink_that_is_killed_while_its_server_is_paused(rig: MongoRig) -> None:
    """What the server finds on the dead sink's connection, after it was removed, is removed again."""
    rig.server.start()
    rig.router()
    sink = rig.sink()
    source = rig.calm_source()
    wait_for(lambda: rig.stored() > 1000, "events")
    rig.server.pause()
    at = len(source.lines)
    wait_for(lambda: len(source.lines) > at + 50, "events that the sink sends to the paused server")
    rig.end(sink, signal.SIGKILL)
    sink = rig.sink()
    rig.server.go_on()
    before = rig.stored()
    wait_for(lambda: rig.stored() > before + 1000, "more events")
    rig.stop_emitting()
    rig.settled(sink, source)


def test_the_last_sink_to_start_is_the_one_that_writes(rig: MongoRig) -> None:
    """The one before says so, and nothing is stored twice."""
    rig.server.start()
    rig.router()
    first = rig.sink()
    source = rig.calm_source()
    wait_for(lambda: rig.stored() > 1000, "events")
    second = rig.sink()
    first.wait_for("another sink has begun to write")
    assert any("stored" in line for line in rig.end(first, signal.SIGTERM))
    rig.stop_emitting()
    rig.settled(second, source)


def test_indexes_and_a_collection_that_are_dropped_under_the_sink_are_made_anew(rig: MongoRig) -> None:
    """What was dropped with it is gone; all else is accounted for, and there once."""
    rig.server.start()
    rig.router()
    sink = rig.sink()
    source = rig.calm_source()
    wait_for(lambda: rig.stored() > 1000, "events")
    rig.outsider.faults.events.drop_indexes()
    wait_for(lambda: rig.stored() > 2000, "more events")
    rig.outsider.faults.events.drop()
    wait_for(rig.stored, "events after that")
    rig.stop_emitting()
    figures = rig.finish(source)
    rig.wait_until_told(figures)
    rig.wait_until_booked()
    rig.end(sink, signal.SIGTERM)
    sink = rig.sink()
    rig.end(sink, signal.SIGTERM)
    store = open_store(rig.settled_store, SinkSettings())
    books = {(book.source.id.hex(), book.topic): book for book in store.books()}
    check(books, figures)
    assert all(book.stored == book.next_seq for book in books.values())
    there = Counter(each.id for each in store.read())
    store.close()
    assert 0 < len(there) < sum(book.stored for book in books.values())
    assert there.most_common(1)[0][1] == 1
    assert set(rig.outsider.faults.events.index_information()) == {"_id_", "topic_1_ts_1", "ts_1"}


# Three days behind, then ahead by more than a year, then a jump back to what was before, of a clock that is put right:
# each for eight pauses of the source, of which there are thirty.
SKEWED = """
import time
real, pause, pauses = time.time, time.sleep, 0
shifts = [-3 * 86400, 400 * 86400, -3 * 86400 - 30, 0]

def sleep(seconds):
    global pauses
    pauses += 1
    pause(seconds)

time.sleep = sleep
time.time = lambda: real() + shifts[min(pauses // 8, 3)]
"""


def test_clocks_that_are_wrong_and_jump_lose_nothing(rig: MongoRig, monkeypatch: pytest.MonkeyPatch) -> None:
    """The books go by numbers, not by times; the days are those that the sources say."""
    monkeypatch.setenv("EVENTSTORM_SINK_MONGODB_COLLECTIONS", "day")
    rig.server.start()
    rig.router()
    sink = rig.sink()
    arguments = map(str, (3_000, 0.2, 50, 0, rig.enough))
    skewed = (sys.executable, "-c", SKEWED + SOURCE, *arguments)
    sources = [rig.start(*skewed, ready='"at"', EVENTSTORM_ENDPOINT=rig.ingress), rig.calm_source(3_000)]
    books = rig.settled(sink, *sources)
    assert sorted(book.stored for book in books.values()) == [300, 300, 3_001, 3_001]
    days = [name for name in rig.outsider.faults.list_collection_names() if name.startswith("events_2")]
    assert len(days) >= 3
