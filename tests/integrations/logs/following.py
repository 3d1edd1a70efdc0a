"""``eventstorm logs`` as a process that follows files, and what it prints."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

PROGRAM = str(Path(sys.executable).with_name("eventstorm-logs"))
# As long as a busy machine may take.
DEADLINE_S = 60


class Running:
    """The command, following, and the events that it printed."""

    def __init__(self, *arguments: str) -> None:
        self.process = subprocess.Popen(
            [PROGRAM, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, bufsize=1
        )
        assert self.process.stdout
        assert self.process.stderr
        self.events: list[dict[str, Any]] = []
        self.ready = self.process.stderr.readline()
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        assert self.process.stdout
        for line in self.process.stdout:
            self.events.append(json.loads(line))

    def paths(self) -> list[str]:
        return [event["data"]["url"]["path"] for event in self.events if event["topic"] == "http.hit"]

    def wait(self, condition: Callable[[], bool]) -> None:
        deadline = time.monotonic() + DEADLINE_S
        while not condition():
            assert time.monotonic() < deadline, self.events
            assert self.process.poll() is None
            time.sleep(0.02)

    def stop(self, number: int = signal.SIGTERM) -> str:
        """End it; returns what it wrote to standard error after it was ready."""
        self.process.send_signal(number)
        try:
            assert self.process.wait(DEADLINE_S) == 0
        finally:
            self.kill()
        return self.said

    def kill(self) -> None:
        assert self.process.stdout
        assert self.process.stderr
        self.process.kill()
        self.process.wait()
        self._thread.join()
        self.said = "" if self.process.stderr.closed else self.process.stderr.read()
        self.process.stdout.close()
        self.process.stderr.close()
