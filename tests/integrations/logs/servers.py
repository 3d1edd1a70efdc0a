"""Real servers for tests: started on loopback, on free ports, in folders of the test's own, and stopped with it."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

# As long as a busy machine may take.
DEADLINE_S = 60.0


def program(name: str) -> str:
    """Return the path of a server's program; fails the test where it is not installed."""
    path = shutil.which(name, path=f"{os.environ['PATH']}:/usr/sbin:/sbin")
    if path is None:
        pytest.fail(f"{name} is not installed; install it, or leave these tests out with --no-servers")
    return path


def needs_root() -> None:
    """Skip a test of what only root can start."""
    if os.geteuid() != 0:
        pytest.skip("this server can only be started by root")


def wait(condition: Callable[[], object], what: str) -> None:
    """Return when `condition` is true; fail when the time is up."""
    deadline = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < deadline, f"not within {DEADLINE_S} s: {what}"
        time.sleep(0.02)


def answers(port: int, host: str = "127.0.0.1") -> bool:
    """Tell whether something listens."""
    with contextlib.suppress(OSError), socket.create_connection((host, port), timeout=5):
        return True
    return False


@contextlib.contextmanager
def running(command: Sequence[str], output: Path, stop: int = signal.SIGTERM) -> Iterator[subprocess.Popen[bytes]]:
    """Run a server in the foreground; what it prints goes to a file."""
    with output.open("ab") as file:
        server = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=file, stderr=file, start_new_session=True)
    try:
        yield server
    finally:
        if server.poll() is None:
            server.send_signal(stop)
            try:
                server.wait(10)
            except subprocess.TimeoutExpired:
                os.killpg(server.pid, signal.SIGKILL)
                server.wait()
