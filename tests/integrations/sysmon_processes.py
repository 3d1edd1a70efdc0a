"""Processes that the tests of the system metrics start, and what the collector of services tells of them."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from eventstorm_integrations.sysmon.chosen import choices
from eventstorm_integrations.sysmon.scan import Scanner
from eventstorm_integrations.sysmon.services import ServiceCollector

# As long as a busy machine may take.
DEADLINE_S = 60.0


def until(probe: Callable[[], Any]) -> Any:
    """Return what `probe` does once it is true."""
    give_up = time.monotonic() + DEADLINE_S
    while not (found := probe()):
        assert time.monotonic() < give_up, "not in time"
        time.sleep(0.01)  # between two looks at other processes
    return found


@contextlib.contextmanager
def running(code: str) -> Iterator[subprocess.Popen[str]]:
    """Run Python code, and yield the process once it has printed a line; its whole group ends afterwards."""
    process = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stdin=subprocess.PIPE, text=True, start_new_session=True
    )
    try:
        assert process.stdout
        assert process.stdout.readline() == "ready\n"
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


WAITS = "import sys; print('ready', flush=True); sys.stdin.read()"


class Watched:
    """A collector of its own, asked at moments that the test counts."""

    def __init__(self, pids: tuple[int, ...] = (), services: tuple[str, ...] = (), root: Path = Path("/")) -> None:
        free = Scanner(clock=lambda: 0.0)
        self.collector = ServiceCollector(choices(pids, services, root), free, set(), clock=lambda: 0.0)

    def sample(self) -> list[dict[str, Any]]:
        return self.collector.sample(time.monotonic())

    def only(self) -> dict[str, Any]:
        (event,) = self.sample()
        return event


FORKS = """
import os, sys
for _ in range(3):
    if not os.fork():
        os.read(0, 1)
        os._exit(0)
print("ready", flush=True)
os.read(0, 1)
while True: os.wait()
"""
