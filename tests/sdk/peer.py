"""What a source talks to: a bare XSUB that subscribes as a router does, and records what it decodes."""

from __future__ import annotations

import os
import queue
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import bson
import zmq
from zmq.utils.monitor import recv_monitor_message

from eventstorm.wire import Message, decode_message

# As long as a busy machine may take.
DEADLINE_S = 60.0
# Who has ended has hung up; but what it had forked may go on.
_SETTLED_S = 2.0
_peers: dict[str, Peer] = {}


def wait_until(condition: Callable[[], object], what: str, deadline_s: float = DEADLINE_S) -> None:
    """Wait until `condition` holds; fail the test if it does not in time."""
    deadline = time.monotonic() + deadline_s
    while not condition():
        assert time.monotonic() < deadline, f"not in time: {what}"
        time.sleep(0.005)


class Peer:
    """A router with one subscriber, in a thread; `port` binds where an earlier one was."""

    def __init__(self, *prefixes: bytes, port: int = 0) -> None:
        self.messages: list[Message] = []
        self.connections = 0
        """How many there were at the last look; all that came by the others is in `messages`."""
        self.looks = 0
        self._commands: queue.Queue[bytes | None] = queue.Queue()
        bound: queue.Queue[int] = queue.Queue()
        self._thread = threading.Thread(target=self._run, args=(prefixes, port, bound))
        self._thread.start()
        self.port = bound.get()
        self.endpoint = f"tcp://127.0.0.1:{self.port}"
        _peers[self.endpoint] = self

    def _run(self, prefixes: tuple[bytes, ...], port: int, bound: queue.Queue[int]) -> None:
        context = zmq.Context()
        socket = context.socket(zmq.XSUB)
        socket.linger = 0
        socket.rcvhwm = 0
        monitor = socket.get_monitor_socket(zmq.EVENT_ACCEPTED | zmq.EVENT_DISCONNECTED)
        socket.bind(f"tcp://127.0.0.1:{port or '*'}")
        for prefix in prefixes:
            socket.send(b"\1" + prefix)
        bound.put(int(socket.getsockopt_string(zmq.LAST_ENDPOINT).rpartition(":")[2]))
        connections = 0
        while True:
            while not self._commands.empty():
                command = self._commands.get()
                if command is None:
                    socket.disable_monitor()
                    monitor.close(linger=0)
                    socket.close()
                    context.term()
                    return
                socket.send(command)
            while monitor.poll(0):
                connections += 1 if recv_monitor_message(monitor)["event"] == zmq.EVENT_ACCEPTED else -1
            if socket.poll(5):
                self.messages.append(decode_message(socket.recv_multipart()))
            else:
                self.connections = connections
                self.looks += 1

    def subscribe(self, prefix: bytes) -> None:
        """Ask for topics."""
        self._commands.put(b"\1" + prefix)

    def unsubscribe(self, prefix: bytes) -> None:
        """Ask no more for them."""
        self._commands.put(b"\0" + prefix)

    def stop(self) -> None:
        """Be gone; what was received stays."""
        _peers.pop(self.endpoint, None)
        self._commands.put(None)
        self._thread.join()

    def __enter__(self) -> Peer:
        return self

    def __exit__(self, *_: object) -> None:
        if self._thread.is_alive():
            self.stop()

    def events(self, topic: str | None = None) -> list[dict[str, Any]]:
        """Return the data of what was received, in order."""
        return [
            bson.decode(event.data)
            for message in list(self.messages)
            if topic in (None, message.topic)
            for event in message.events()
        ]

    def count(self, topic: str | None = None) -> int:
        """Return how many events were received."""
        return sum(message.header.n for message in list(self.messages) if topic in (None, message.topic))

    def wait_for(self, count: int, topic: str | None = None) -> list[dict[str, Any]]:
        """Wait for so many events and return them."""
        deadline = time.monotonic() + DEADLINE_S
        while self.count(topic) < count and time.monotonic() < deadline:
            time.sleep(0.005)
        assert self.count(topic) == count
        return self.events(topic)

    def numbered(self) -> dict[tuple[bytes, int], tuple[int, int]]:
        """Return, for each stream that said where it begins: how many events it numbered, and dropped of these.

        Fails if numbers are missing that the source did not count as dropped.
        """
        streams: dict[tuple[bytes, int], tuple[int, int]] = {}
        for message in list(self.messages):
            header = message.header
            key = header.source_id, header.tid
            numbers, drops = streams.get(key, (0, 0))
            assert header.seq - numbers == header.drop - drops, f"lost on the way: {numbers} to {header.seq}"
            streams[key] = header.seq + header.n, header.drop
        return streams

    def sources(self) -> set[bytes]:
        """Return the identities of the sources that were heard."""
        return {message.header.source_id for message in list(self.messages)}

    def said_goodbye(self) -> set[bytes]:
        """Return the identities of the sources that closed."""
        return {message.header.source_id for message in list(self.messages) if message.header.bye}


def settle(endpoint: str) -> None:
    """Let a peer read what those have sent that have ended: they wait until it is on its way, and for no reader."""
    peer, deadline = _peers.get(endpoint), time.monotonic() + _SETTLED_S
    # The look that is under way may have begun before.
    enough = peer.looks + 2 if peer else 0
    while peer is not None and (peer.connections or peer.looks < enough) and time.monotonic() < deadline:
        time.sleep(0.005)


def program(code: str, endpoint: str, folder: Path, **variables: str) -> subprocess.Popen[str]:
    """Start a program that emits; it is a file, as multiprocessing's children need."""
    path = folder / "program.py"
    path.write_text(code)
    environment = {**os.environ, "EVENTSTORM_ENDPOINT": endpoint, "PYTHONWARNINGS": "error", **variables}
    # fork in a program with threads: what these tests are about.
    environment["PYTHONWARNINGS"] += ",ignore::DeprecationWarning"
    return subprocess.Popen(
        [sys.executable, str(path)],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        stdin=subprocess.DEVNULL,
        text=True,
        cwd=folder,
    )


def run(code: str, endpoint: str, folder: Path, **variables: str) -> tuple[int, str, str, float]:
    """Run a program to its end; return its exit code, outputs and seconds."""
    started = time.monotonic()
    with program(code, endpoint, folder, **variables) as process:
        try:
            out, err = process.communicate(timeout=120)
        finally:
            process.kill()
    took_s = time.monotonic() - started
    settle(endpoint)
    return process.returncode, out, err, took_s
