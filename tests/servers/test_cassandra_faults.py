"""The ledger through outages of a real Cassandra: at the end emitted = stored + lost, and no event twice."""

from __future__ import annotations

import contextlib
import signal
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from cassandra import ConsistencyLevel, DriverException, InvalidRequest
from cassandra.cluster import NoHostAvailable

from eventstorm_sinks.batch import Book, StreamKey
from eventstorm_sinks.settings import SinkSettings
from eventstorm_sinks.stores import StoreUnavailable, TopicSummary, open_store
from servers.cassandra_server import CassandraServer
from sinks.rig import Process, Rig, check, wait_for

# What waits for an answer not much longer than a test can.
OPTIONS = "timeout_s=3"
TABLE = "tests.faults"
# Nodes that start anew, on a busy machine.
BACK_S = 120.0
SOURCE = """
import json, sys, threading, time
import eventstorm

told = threading.Event()
threading.Thread(target=lambda: (sys.stdin.readline(), told.set()), daemon=True).start()
number = 0
while not told.is_set():
    eventstorm.emit("test.a", number=number, filling="x" * 50)
    if number % 10 == 0:
        eventstorm.emit("test.b", number=number)
    if number % 100 == 0:
        print(json.dumps({"at": number}), flush=True)
        time.sleep(0.1)
    number += 1
eventstorm.close(timeout_s=5)
stats = eventstorm.stats()
print(json.dumps({"id": stats["source_id"], "topics": stats["topics"]}), flush=True)
"""


class CassandraRig(Rig):
    """A rig whose sink writes to Cassandra."""

    def __init__(self, path: Path, server: CassandraServer) -> None:
        super().__init__(path)
        self.server = server
        self.store = f"{server.url}/{TABLE}?{OPTIONS}"

    def calm_source(self) -> Process:
        """Start a source that emits 1,000 events a second at most, which such a server keeps up with, until told."""
        return self.start(sys.executable, "-c", SOURCE, ready='"at"', EVENTSTORM_ENDPOINT=self.ingress)

    def wait_for_more(self, sink: Process, events: int = 1000) -> None:
        """Wait until so many more events are stored than now."""
        before = self.stored()
        wait_for(lambda: self.stored() > before + events, lambda: f"more events: {sink.lines[-3:]}", BACK_S)

    def stored(self) -> int:
        """Return how many events are committed, as an outsider sees them; 0 while there are no tables."""
        found: list[int] = []
        wait_for(lambda: self._ask(found), "an answer to an outsider", BACK_S)
        return found[-1]

    def _ask(self, found: list[int]) -> bool:
        """Ask once; a node that was killed may have been asked by another before that one knew."""
        try:
            with self.server.session(ConsistencyLevel.ONE) as session:
                found.append(sum(row.events or 0 for row in session.execute(f"SELECT events FROM {TABLE}_buckets")))
        except InvalidRequest:
            found.append(0)
        except (DriverException, NoHostAvailable):
            return False
        return True

    def booked(self) -> dict[StreamKey, int]:
        """Return up to which number each stream is accounted for."""
        found: dict[StreamKey, int] = {}
        try:
            with self.server.session() as session:
                for stream, next_seq in session.execute(f"SELECT stream, next_seq FROM {TABLE}_books"):
                    if next_seq is not None:
                        key = StreamKey(stream[:12], int.from_bytes(stream[12:], "big"))
                        found[key] = max(found.get(key, 0), next_seq)
        except (DriverException, NoHostAvailable):  # it is busy, or there is no such table yet
            return {}
        return found

    def stands_still(self, source: Process) -> bool:
        """Tell whether nothing is stored while events come."""
        at, before = len(source.lines), self.stored()
        wait_for(lambda: len(source.lines) > at + 30, "events")
        return self.stored() == before

    def settled(self, sink: Process, *sources: Process) -> dict[str, Book]:
        """Let the sources end, then the sink; return the books by topic, checked against all that there is."""
        figures = self.finish(*sources)
        self.wait_until_told(figures)
        self.wait_until_booked()  # the server may be behind by more than a sink waits for when it is told to end
        said = self.end(sink, signal.SIGTERM)
        self.store = self.store.partition("?")[0]  # with time enough for a busy machine
        found: list[dict[tuple[str, str], Book]] = []
        wait_for(lambda: self._look(found), "answers from a server that is busy", BACK_S)
        check(found[-1], figures)
        assert not [line for line in said if "Traceback" in line]
        return {topic: book for (_, topic), book in found[-1].items()}

    def _look(self, found: list[dict[tuple[str, str], Book]]) -> bool:
        """Append the books, checked against the events and their counts; False if the server did not answer in time."""
        try:
            books = self.books()
            with contextlib.closing(open_store(self.store, SinkSettings())) as store:
                assert Counter(each.id for each in store.read()).most_common(1)[0][1] == 1
                counts = Counter({topic: 0 for _, topic in books})
                for (_, topic), book in books.items():
                    counts[topic] += book.stored
                summaries: list[TopicSummary] = store.topics()  # type: ignore[attr-defined]
                assert {each.topic: each.events for each in summaries} == counts
        except StoreUnavailable:
            return False
        found.append(books)
        return True


@pytest.fixture
def rig(tmp_path: Path, cluster: CassandraServer) -> Iterator[CassandraRig]:
    """Three nodes and an empty table."""
    cluster.empty_table(TABLE)
    with contextlib.closing(CassandraRig(tmp_path, cluster)) as rig:
        yield rig


def test_a_node_that_is_killed_and_comes_back_is_not_noticed(rig: CassandraRig) -> None:
    """In the middle of a load: two of three replicas are a quorum."""
    rig.router()
    sink = rig.sink()
    source = rig.calm_source()
    rig.wait_for_more(sink)
    rig.server.nodes[1].kill()
    rig.wait_for_more(sink, 3000)
    rig.server.nodes[1].mend()
    rig.wait_for_more(sink)
    books = rig.settled(sink, source)
    assert not any(book.lost_way or book.overflowed for book in books.values())


def test_a_node_that_pauses_is_not_waited_for(rig: CassandraRig) -> None:
    """Nor does what it had received do harm when it goes on."""
    rig.router()
    sink = rig.sink()
    source = rig.calm_source()
    rig.wait_for_more(sink)
    rig.server.nodes[2].pause()
    rig.wait_for_more(sink, 3000)
    rig.server.nodes[2].go_on()
    rig.wait_for_more(sink)
    books = rig.settled(sink, source)
    assert not any(book.lost_way or book.overflowed for book in books.values())


def test_a_cluster_of_which_all_are_killed_and_come_back_loses_nothing(rig: CassandraRig) -> None:
    """What it had acknowledged it still has; what came meanwhile waited."""
    rig.router()
    sink = rig.sink()
    source = rig.calm_source()
    rig.wait_for_more(sink)
    rig.server.kill()
    sink.wait_for("cannot write now")
    rig.server.mend()
    rig.wait_for_more(sink)
    books = rig.settled(sink, source)
    assert not any(book.lost_way or book.overflowed for book in books.values())


@pytest.mark.parametrize("drop", ["newest", "oldest"])
def test_a_queue_that_is_full_counts_what_it_drops(
    rig: CassandraRig, monkeypatch: pytest.MonkeyPatch, drop: str
) -> None:
    """An outage that is longer than the queue."""
    monkeypatch.setenv("EVENTSTORM_SINK_QUEUE_BYTES", str(2**20))
    monkeypatch.setenv("EVENTSTORM_SINK_QUEUE_DROP", drop)
    rig.router()
    sink = rig.sink()
    source = rig.calm_source()
    rig.wait_for_more(sink)
    for node in rig.server.nodes:
        node.pause()
    sink.wait_for(f"the {drop} events are lost to it")
    rig.server.mend()
    rig.wait_for_more(sink)
    books = rig.settled(sink, source)
    assert sum(book.overflowed for book in books.values()) > 0
    assert not any(book.lost_way or book.refused for book in books.values())


def test_a_sink_that_is_killed_goes_on_from_its_books(rig: CassandraRig) -> None:
    """Once with a node that is paused, which finds afterwards what the dead sink had sent, and it was removed."""
    rig.router()
    sink = rig.sink()
    source = rig.calm_source()
    rig.wait_for_more(sink)
    rig.end(sink, signal.SIGKILL)
    at = len(source.lines)
    wait_for(lambda: len(source.lines) > at + 20, "events while there is no sink")
    sink = rig.sink()
    rig.wait_for_more(sink)
    rig.server.nodes[0].pause()
    at = len(source.lines)
    wait_for(lambda: len(source.lines) > at + 50, "events that the sink sends to the paused node")
    rig.end(sink, signal.SIGKILL)
    sink = rig.sink()
    rig.server.nodes[0].go_on()
    rig.wait_for_more(sink)
    books = rig.settled(sink, source)
    assert sum(book.lost_way for book in books.values()) > 0


def test_a_table_that_is_altered_under_the_sink_is_put_right(rig: CassandraRig) -> None:
    """A column that it needs is dropped: it is made anew, and the event is not blamed."""
    rig.store += "&consistency=all"
    rig.router()
    sink = rig.sink()
    source = rig.calm_source()
    rig.wait_for_more(sink)
    with rig.server.session() as session:
        session.execute(f"ALTER TABLE {TABLE} DROP bson")
    rig.wait_for_more(sink, 3000)
    books = rig.settled(sink, source)
    assert not any(book.lost_way or book.refused for book in books.values())


def test_the_last_sink_to_start_is_the_one_that_writes(rig: CassandraRig) -> None:
    """The one before says so, and nothing is stored twice."""
    rig.router()
    first = rig.sink()
    source = rig.calm_source()
    rig.wait_for_more(first)
    second = rig.sink()
    first.wait_for("another sink has begun to write")
    rig.wait_for_more(second)
    rig.end(first, signal.SIGTERM)
    rig.settled(second, source)


def test_a_sink_says_what_is_wrong_with_its_login_and_its_certificates(tmp_path: Path) -> None:
    """In one line each, without the password; with the right ones it stores."""
    server = CassandraServer(tmp_path, guarded=True, encrypted=True)
    rig = CassandraRig(tmp_path, server)
    place = rig.store.removeprefix("cassandra://")
    tls = f"&tls=true&tls_ca={server.certificate}"
    try:
        server.start()
        rig.router()
        for login, options, told in (
            ("cassandra:mistaken", tls, "password are incorrect"),
            ("cassandra:cassandra", "&tls=true", "CERTIFICATE_VERIFY_FAILED"),
            ("cassandra:cassandra", "", ": Connection"),
        ):
            rig.store = f"cassandra://{login}@{place}{options}"
            sink = rig.sink()
            sink.wait_for(told)
            said = [line for line in rig.end(sink, signal.SIGTERM) if "cannot write now" in line]
            assert len(said) == 1
            assert "mistaken" not in said[0]
        rig.store = f"cassandra://cassandra:cassandra@{place}{tls}"
        sink = rig.sink()
        source = rig.calm_source()
        rig.wait_for_more(sink)
        figures = rig.finish(source)
        rig.wait_until_told(figures)
        rig.wait_until_booked()
        rig.end(sink, signal.SIGTERM)
        books = rig.books()
        check(books, figures)
    finally:
        rig.close()
        server.kill()


def test_a_server_that_comes_late_and_revokes_permissions_loses_nothing(
    tmp_path: Path, guarded_cassandra: CassandraServer
) -> None:
    """The sink receives and counts meanwhile, and says what is amiss."""
    server = guarded_cassandra
    rig = CassandraRig(tmp_path, server)
    rig.store = rig.store.replace("//", "//sink:sink@")
    try:
        rig.router()
        sink = rig.sink()
        source = rig.calm_source()
        sink.wait_for("cannot write now")
        server.start()
        with server.session() as session:
            session.execute("CREATE ROLE sink WITH PASSWORD = 'sink' AND LOGIN = true")
            session.execute("GRANT CREATE ON ALL KEYSPACES TO sink")
            rig.wait_for_more(sink)
            # Who made them may do all with the keyspace and with the table.
            for place in ("KEYSPACE tests", TABLE):
                session.execute(f"REVOKE MODIFY ON {place} FROM sink")
            wait_for(lambda: rig.stands_still(source), "the permissions to be taken away", BACK_S)
            session.execute(f"GRANT MODIFY ON {TABLE} TO sink")
            rig.wait_for_more(sink)
        books = rig.settled(sink, source)
        assert not any(book.lost_way or book.overflowed or book.refused for book in books.values())
    finally:
        rig.close()
