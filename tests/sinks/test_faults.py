"""The ledger under real faults of real processes: at the end, of every source and topic, emitted = stored + lost."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import zmq

from eventstorm.wire import decode_message
from eventstorm_sinks.batch import Batch, Book, StreamKey
from eventstorm_sinks.settings import SinkSettings
from eventstorm_sinks.sink import Sink
from eventstorm_sinks.stores import open_store
from eventstorm_sinks.stores.jsonl import JsonlStore
from ports import free_port

PROGRAM = str(Path(sys.executable).with_name("eventstorm"))
# As long as a busy machine may take.
DEADLINE_S = 60.0
# A store's server that has a part of a busy machine may be behind by more than that, and then catches up.
CATCH_UP_S = 60.0

# Emits to two topics until told to end, says now and then how far it is, at the end what the SDK says of each topic.
SOURCE = """
import json, os, sys, threading, time
import eventstorm

rounds, pause_s, size, workers = int(sys.argv[1]), float(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
enough = sys.argv[5]  # a file: once it is there, no more rounds
filling = "x" * size

def tell(what):
    # In one call, since workers write to the same pipe.
    os.write(1, json.dumps(what).encode() + b"\\n")

def emit_all():
    for number in range(rounds):
        eventstorm.emit("test.a", number=number, filling=filling)
        if number % 10 == 0:
            eventstorm.emit("test.b", number=number)
        if number % 100 == 0:
            tell({"at": number})
            time.sleep(pause_s)
            if os.path.exists(enough):
                break

def finish():
    eventstorm.close(timeout_s=5)
    stats = eventstorm.stats()
    tell({"id": stats["source_id"], "topics": stats["topics"]})

eventstorm.emit("test.a", number=-1)
for worker in range(workers):
    if os.fork() == 0:
        emit_all()
        finish()
        os._exit(0)
emit_all()
for worker in range(workers):
    os.wait()
sys.stdin.readline()
finish()
"""


def wait_for(condition: Callable[[], Any], what: str, deadline_s: float = DEADLINE_S) -> Any:
    """Wait until `condition` gives something true, and return it."""
    deadline = time.monotonic() + deadline_s
    while not (value := condition()):
        assert time.monotonic() < deadline, f"waited in vain for {what}"
        time.sleep(0.01)
    return value


class Process:
    """A child process whose lines of output are kept as they come."""

    def __init__(self, *command: str, **environment: str) -> None:
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=os.environ | {"PYTHONUNBUFFERED": "1"} | environment,
        )
        self.lines: list[str] = []
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        self.lines.extend(iter(self._process.stdout.readline, ""))

    def wait_for(self, text: str) -> None:
        """Wait for a line that contains `text`."""
        wait_for(lambda: any(text in line for line in list(self.lines)), f"{text!r} in {self.lines}")

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    @property
    def code(self) -> int | None:
        """Its exit code, once it has ended."""
        return self._process.returncode

    def say(self) -> None:
        """Write one line to its standard input."""
        assert self._process.stdin is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()

    def send(self, number: signal.Signals) -> None:
        """Send a signal."""
        self._process.send_signal(number)

    def end(self, number: signal.Signals | None = None) -> list[str]:
        """Send a signal if one is given, wait for the end, and return all lines of output."""
        if number:
            self._process.send_signal(number)
        try:
            self._process.wait(DEADLINE_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            raise
        finally:
            self._process.wait()
            self._reader.join()
            for stream in (self._process.stdin, self._process.stdout):
                assert stream is not None
                stream.close()
        return self.lines


class Rig:
    """A router, a sink that writes JSON lines, and sources, each a process; and a witness of what the sources said."""

    def __init__(self, path: Path) -> None:
        self.store, self.journal = f"jsonl:{path / 'events.jsonl'}", path / "events.jsonl.books"
        self.enough = path / "enough"
        self.ingress, self.egress = (f"tcp://127.0.0.1:{free_port()}" for _ in range(2))
        self.running: list[Process] = []
        self.said: dict[StreamKey, int] = {}
        """Of each stream, the next number as its last message or heartbeat told."""
        self.topics: dict[StreamKey, str] = {}
        self._stop = threading.Event()
        self._witness = threading.Thread(target=self._watch)
        self._witness.start()

    def _watch(self) -> None:
        context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        subscriber = context.socket(zmq.SUB)
        subscriber.linger, subscriber.rcvhwm = 0, 0
        subscriber.subscribe(b"test.")
        subscriber.reconnect_ivl = 20
        subscriber.connect(self.egress)
        while not self._stop.is_set():
            if subscriber.poll(50):
                message = decode_message(subscriber.recv_multipart())
                key = StreamKey(message.header.source_id, message.header.tid)
                self.said[key] = message.header.seq + message.header.n
                self.topics[key] = message.topic
        subscriber.close()
        context.term()

    def start(self, *command: str, ready: str, **environment: str) -> Process:
        """Start a process, and wait until it says `ready`."""
        process = Process(*command, **environment)
        self.running.append(process)
        process.wait_for(ready)
        return process

    def router(self, *options: str) -> Process:
        """Start the router."""
        return self.start(
            PROGRAM, "router", "--ingress", self.ingress, "--egress", self.egress, *options, ready="ready"
        )

    def sink(self) -> Process:
        """Start the sink."""
        return self.start(PROGRAM, "sink", self.store, "--egress", self.egress, "--topic", "test.", ready="ready")

    def source(
        self, rounds: int = 20_000, pause_s: float = 0.005, size: int = 50, workers: int = 0, **environment: str
    ) -> Process:
        """Start a source, which emits about that long."""
        arguments = map(str, (rounds, pause_s, size, workers, self.enough))
        environment.setdefault("EVENTSTORM_ENDPOINT", self.ingress)
        return self.start(sys.executable, "-c", SOURCE, *arguments, ready='"at"', **environment)

    def steady_source(self, workers: int, pause_s: float = 0.1) -> Process:
        """Start a source of several processes, which emits until `stop_emitting`."""
        return self.source(10**9, pause_s, workers=workers)

    def booked(self) -> dict[StreamKey, int]:
        """Return up to which number each stream is accounted for, as far as that can be seen while sinks run."""
        raise NotImplementedError

    def wait_until_booked(self) -> None:
        """Wait until all streams, as far as they are now, are in books: whoever has to store them receives them."""
        now = dict(self.said)
        wait_for(
            lambda: (found := self.booked()) and all(found.get(key, -1) >= now[key] for key in now),
            "all in books",
            CATCH_UP_S,
        )

    def stop_emitting(self) -> None:
        """Have the sources emit no more; their end is `finish`."""
        self.enough.touch()

    def wait_for_more(self, events: int = 300) -> None:
        """Wait until each of the streams that are known has so many more events."""
        before = dict(self.said)
        wait_for(lambda: all(self.said[key] >= seq + events // 10 for key, seq in before.items()), "more events")

    def end(self, process: Process, number: signal.Signals | None = None) -> list[str]:
        """End a process and return its output."""
        self.running.remove(process)
        return process.end(number)

    def finish(self, *sources: Process) -> dict[tuple[str, str], dict[str, int]]:
        """Let the sources come to their end; return their own figures, by source and topic."""
        figures: dict[tuple[str, str], dict[str, int]] = {}
        for source in sources:
            source.say()
            for line in self.end(source):
                told = json.loads(line) if line.startswith("{") else {}  # others are what the SDK logs
                for topic, counts in told.get("topics", {}).items():
                    figures[told["id"], topic] = counts
        return figures

    def wait_until_told(self, figures: dict[tuple[str, str], dict[str, int]]) -> None:
        """Wait until the sources' last numbers have passed the router."""

        def all_told() -> bool:
            said = {(key.source_id.hex(), self.topics[key]): seq for key, seq in list(self.said.items())}
            return all(said.get(stream) == counts["emitted"] for stream, counts in figures.items())

        wait_for(all_told, f"the last numbers of {figures}, was told {self.said}")

    def close(self) -> None:
        """End what still runs."""
        self.stop_emitting()  # children of a source that is killed would go on
        self._stop.set()
        self._witness.join()
        for process in self.running:
            process.send(signal.SIGCONT)
            process.end(signal.SIGKILL)

    def books(self) -> dict[tuple[str, str], Book]:
        """Return the store's books by source and topic, each checked against the events that are there."""
        with contextlib.closing(open_store(self.store, SinkSettings())) as store:
            books = {(book.source.id.hex(), book.topic): book for book in store.books()}
            stored: dict[tuple[str, str], int] = dict.fromkeys(books, 0)
            for event in store.read():
                stored[event.source.id.hex(), event.topic] += 1
        for stream, book in books.items():
            assert book.stored == stored[stream]
            lost = book.refused + book.overflowed + book.lost_source + book.lost_way
            assert book.next_seq - book.first_seq == book.stored + lost
        return books


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    """Nothing started yet."""
    rig = Rig(tmp_path)
    yield rig
    rig.close()


def check(books: dict[tuple[str, str], Book], figures: dict[tuple[str, str], dict[str, int]]) -> None:
    """Check that each number that the sources gave is accounted for."""
    assert figures
    for stream, counts in figures.items():
        if not counts["emitted"] and stream not in books:
            continue
        book = books[stream]
        assert (book.first_seq, book.next_seq) == (0, counts["emitted"]), stream
        assert book.lost_source == counts["buffer_full"] + counts["unsent"], stream


def test_nothing_is_lost_in_a_normal_run(rig: Rig) -> None:
    """All that was emitted is stored."""
    router, sink = rig.router(), rig.sink()
    figures = rig.finish(rig.source())
    rig.wait_until_told(figures)
    rig.end(sink, signal.SIGTERM)
    rig.end(router, signal.SIGTERM)
    books = rig.books()
    check(books, figures)
    assert {topic: book.stored for (_, topic), book in books.items()} == {"test.a": 20_001, "test.b": 2_000}
    assert not any(book.lost_way for book in books.values())


def test_a_router_that_is_killed_loses_only_what_is_counted(rig: Rig) -> None:
    """Sources and sink find the next one by themselves."""
    router, sink = rig.router(), rig.sink()
    source = rig.source(rounds=40_000)
    source.wait_for('"at": 5000')
    rig.end(router, signal.SIGKILL)
    source.wait_for('"at": 10000')
    rig.router()
    told = dict(rig.said)
    wait_for(lambda: any(rig.said[key] > seq for key, seq in told.items()), "events through the second router")
    figures = rig.finish(source)
    rig.wait_until_told(figures)
    rig.end(sink, signal.SIGTERM)
    check(rig.books(), figures)


def test_a_sink_that_was_stopped_for_ten_seconds_accounts_for_them(rig: Rig) -> None:
    """What no queue could hold meanwhile is lost on the way."""
    rig.router("--hwm", "10")
    sink = rig.sink()
    source = rig.source(rounds=22_000, pause_s=0.05, size=2000)
    source.wait_for('"at": 1000')
    sink.send(signal.SIGSTOP)
    stopped_s = time.monotonic()
    wait_for(lambda: time.monotonic() > stopped_s + 10, "ten seconds to pass")
    sink.send(signal.SIGCONT)
    figures = rig.finish(source)
    rig.wait_until_told(figures)
    rig.end(sink, signal.SIGTERM)
    books = rig.books()
    check(books, figures)
    assert sum(book.lost_way for book in books.values()) > 0


def test_a_sink_that_is_killed_goes_on_from_its_books(rig: Rig) -> None:
    """What it had received but not committed, and what came meanwhile, is lost on the way."""
    rig.router()
    sink = rig.sink()
    source = rig.source(rounds=40_000)
    # Of a stream that it had never committed anything of, a new sink cannot know where the old one began to listen.
    wait_for(lambda: "test.b" in rig.journal.read_text("utf-8"), "a first commit")
    rig.end(sink, signal.SIGKILL)
    at = len(source.lines)
    wait_for(lambda: len(source.lines) > at + 20, "events while there is no sink")
    sink = rig.sink()
    figures = rig.finish(source)
    rig.wait_until_told(figures)
    rig.end(sink, signal.SIGTERM)
    books = rig.books()
    check(books, figures)
    assert sum(book.lost_way for book in books.values()) > 0


def test_of_a_source_that_is_killed_all_is_known_up_to_its_last_heartbeat(rig: Rig) -> None:
    """What it had not sent yet, nobody knows of."""
    rig.router()
    sink = rig.sink()
    source = rig.source(rounds=10**9)
    source.wait_for('"at": 10000')
    rig.end(source, signal.SIGKILL)
    said: dict[StreamKey, int] = {}

    def is_quiet() -> bool:
        before = dict(said)
        said.update(rig.said)
        return said == before

    wait_for(is_quiet, "the last of its messages")
    rig.end(sink, signal.SIGTERM)
    books = rig.books()
    told = {(key.source_id.hex(), rig.topics[key]): seq for key, seq in rig.said.items()}
    assert {stream: book.next_seq for stream, book in books.items()} == told
    assert not any(book.first_seq or book.closed for book in books.values())


def test_forked_workers_are_sources_of_their_own(rig: Rig) -> None:
    """Each of the four, and the parent, has its own numbers."""
    rig.router()
    sink = rig.sink()
    figures = rig.finish(rig.source(rounds=5000, workers=4))
    assert len({source for source, _ in figures}) == 5
    rig.wait_until_told(figures)
    rig.end(sink, signal.SIGTERM)
    check(rig.books(), figures)


def test_what_a_full_buffer_drops_is_lost_in_the_source(rig: Rig) -> None:
    """And counted there, by the source as by the sink."""
    rig.router()
    sink = rig.sink()
    figures = rig.finish(rig.source(rounds=20_000, pause_s=0, size=2000, EVENTSTORM_BUFFER_BYTES=str(2**20)))
    rig.wait_until_told(figures)
    rig.end(sink, signal.SIGTERM)
    books = rig.books()
    check(books, figures)
    assert sum(counts["buffer_full"] for counts in figures.values()) > 0


class _Refusing(JsonlStore):
    """Refuses the events numbered 100 to 119, 1100 to 1119, and so on, whatever they come with."""

    def write(self, batches: Sequence[Batch], books: Sequence[Book], forget: Sequence[StreamKey] = ()) -> None:
        for batch in batches:
            for event in batch.events:
                if event.seq % 1000 in range(100, 120):
                    raise ValueError("a number that this store does not like")
        super().write(batches, books, forget)


def test_what_a_store_refuses_is_counted_and_the_rest_is_stored(
    rig: Rig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A store that cannot hold some events loses these, and no others."""
    location = str(tmp_path / "events.jsonl")
    monkeypatch.setattr("eventstorm_sinks.sink.open_store", lambda url, settings: _Refusing(location, settings))
    settings = SinkSettings(
        ingress=rig.ingress, egress=rig.egress, embed_router=True, topics=("test.",), stores=(rig.store,), http=""
    )
    with Sink(settings):
        figures = rig.finish(rig.source())
        rig.wait_until_told(figures)
    books = rig.books()
    check(books, figures)
    for (_, topic), book in books.items():
        emitted = 20_001 if topic == "test.a" else 2_000
        refused = sum(number % 1000 in range(100, 120) for number in range(emitted))
        assert (book.stored, book.refused) == (emitted - refused, refused)
