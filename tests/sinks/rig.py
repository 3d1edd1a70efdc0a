"""A router, a sink and sources, each a process of its own, for tests that do them harm; and what they account for."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import zmq

from eventstorm.wire import decode_message
from eventstorm_sinks.batch import Book, StreamKey
from eventstorm_sinks.settings import SinkSettings
from eventstorm_sinks.stores import open_store
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


def wait_for(condition: Callable[[], Any], what: str | Callable[[], str], deadline_s: float = DEADLINE_S) -> Any:
    """Wait until `condition` gives something true, and return it; `what` is asked for when that was in vain."""
    deadline, pause_s = time.monotonic() + deadline_s, 0.01
    while not (value := condition()):
        if time.monotonic() > deadline:
            raise AssertionError(f"waited in vain for {what if isinstance(what, str) else what()}")
        time.sleep(pause_s)
        pause_s = min(pause_s * 1.5, 0.1)  # a server that is asked all the time has no time for others
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
        # Of the background, as that of a rig: what a test that fails leaves must not keep all tests from ending.
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        self.lines.extend(iter(self._process.stdout.readline, ""))

    def wait_for(self, text: str) -> None:
        """Wait for a line that contains `text`."""
        wait_for(lambda: any(text in line for line in list(self.lines)), lambda: f"{text!r} in {self.lines}")

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
        self._witness = threading.Thread(target=self._watch, daemon=True)
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
        found: dict[StreamKey, int] = {}

        def all_booked() -> bool:
            found.update(self.booked())
            return all(found.get(key, -1) >= seq for key, seq in now.items())

        wait_for(all_booked, lambda: f"all in books: {now}, there is {found}: {self.last_words()}", CATCH_UP_S)

    def last_words(self) -> list[list[str]]:
        """Return the last lines of each process."""
        return [each.lines[-3:] for each in self.running]

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

    def kill_with_workers(self, sink: Process) -> None:
        """Kill a sink's processes, of which none notices the death of another."""
        sink.send(signal.SIGSTOP)
        for worker in psutil.Process(sink.pid).children():
            worker.kill()
        self.end(sink, signal.SIGKILL)

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

        wait_for(all_told, lambda: f"the last numbers of {figures}, was told {self.said}")

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


def check(books: dict[tuple[str, str], Book], figures: dict[tuple[str, str], dict[str, int]]) -> None:
    """Check that each number that the sources gave is accounted for."""
    assert figures
    for stream, counts in figures.items():
        if not counts["emitted"] and stream not in books:
            continue
        book = books[stream]
        assert (book.first_seq, book.next_seq) == (0, counts["emitted"]), stream
        assert book.lost_source == counts["buffer_full"] + counts["unsent"], stream
