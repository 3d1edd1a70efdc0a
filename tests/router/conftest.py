"""Routers as processes, and sources and sinks as bare ZeroMQ sockets."""

from __future__ import annotations

import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import zmq

PROGRAM = str(Path(sys.executable).with_name("eventstorm-router"))
# As long as a busy machine may take.
DEADLINE_S = 60.0


def wait_until(condition: Callable[[], object], what: str) -> None:
    """Wait until `condition` holds; fail the test if it does not in time."""
    deadline = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < deadline, f"not in time: {what}"
        time.sleep(0.01)


@dataclass
class RouterProcess:
    """A running ``eventstorm-router``."""

    process: subprocess.Popen[str]
    ingress: str
    egress: str

    def rss_bytes(self) -> int:
        """Return the memory that the process has."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(re.search(r"VmRSS:\s+(\d+)", status)[1]) * 1024


@pytest.fixture
def start_router() -> Iterator[Callable[..., RouterProcess]]:
    """Return a function that starts a router with the given options, on free ports unless told otherwise."""
    started: list[subprocess.Popen[str]] = []

    def start(*options: str, ingress: str = "tcp://127.0.0.1:0", egress: str = "tcp://127.0.0.1:0") -> RouterProcess:
        command = [PROGRAM, "--ingress", ingress, "--egress", egress, *options]
        process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        started.append(process)
        line = process.stderr.readline()
        ready = re.search(r"ready: sources at (\S+), sinks at (\S+?)(,|$)", line)
        assert ready, line
        return RouterProcess(process, ready[1], ready[2])

    yield start
    for process in started:
        process.kill()
        process.wait()
        process.stderr.close()


@pytest.fixture
def connect() -> Iterator[Callable[..., zmq.Socket]]:
    """Return a function that connects a socket; a SUB subscribes to the prefixes. All are closed at the end."""
    context = zmq.Context()
    sockets: list[zmq.Socket] = []

    def connect(kind: int, endpoint: str, *prefixes: bytes) -> zmq.Socket:
        socket = context.socket(kind)
        sockets.append(socket)
        socket.linger = 0
        socket.reconnect_ivl = 20
        socket.rcvtimeo = socket.sndtimeo = int(DEADLINE_S * 1000)
        socket.rcvhwm = socket.sndhwm = 100_000
        for prefix in prefixes:
            socket.subscribe(prefix)
        socket.connect(endpoint)
        return socket

    yield connect
    for socket in sockets:
        socket.close()
    context.term()
