"""Who follows a file is woken when it changes, and sees all without being woken too."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from eventstorm_integrations.logs import run
from eventstorm_integrations.logs.nginx import NginxParser
from eventstorm_integrations.logs.outlet import Outlet
from eventstorm_integrations.logs.run import Follower
from eventstorm_integrations.logs.settings import LogsSettings
from eventstorm_integrations.logs.watch import Watch
from integrations.recorded import Recorded

LINE = 'a - - [24/Nov/2026:10:00:00 +0000] "GET /{} HTTP/1.1" 200 5 "-" "curl/8.1"\n'
# As long as a busy machine may take.
DEADLINE_S = 60.0


class Sends(Recorded):
    """Has sent at once whatever it takes."""

    def flush(self, timeout_s: float | None = None) -> bool:
        """Say so."""
        return True


class Following:
    """A follower in a thread, of one file."""

    def __init__(self, path: Path) -> None:
        self._path, self._stop, self.sent = path, threading.Event(), Sends()
        settings = LogsSettings(timezone="UTC")
        outlet = Outlet(self.sent, 2**20, self._stop)
        state = path.parent / "state"
        self._follower = Follower("nginx", NginxParser, {str(path): settings}, outlet, state, from_start=True)
        self._thread = threading.Thread(target=self._follower.run, args=(self._stop,))
        self._thread.start()

    def wait_for(self, paths: list[str]) -> None:
        deadline = time.monotonic() + DEADLINE_S
        while [hit["url"]["path"] for hit in self.sent.of("http.hit")] != paths:
            assert time.monotonic() < deadline, self.sent.events
            time.sleep(0.01)

    def end(self) -> None:
        self._stop.set()
        while self._thread.is_alive():
            self._path.touch()  # wakes it
            self._thread.join(0.1)
        self._follower.close()


@pytest.fixture
def following(tmp_path: Path) -> Iterator[Callable[[], Following]]:
    path, started = tmp_path / "access.log", []
    path.touch()

    def start() -> Following:
        started.append(Following(path))
        return started[-1]

    yield start
    for each in started:
        each.end()


def write(folder: Path, number: int) -> None:
    with open(folder / "access.log", "a") as file:
        file.write(LINE.format(number))


def test_a_change_ends_the_wait(
    tmp_path: Path, following: Callable[[], Following], monkeypatch: pytest.MonkeyPatch
) -> None:
    if (watch := Watch.open()) is None:
        pytest.skip("this system has no inotify")
    watch.close()
    # So long that nothing would be seen before the test's deadline if nothing told.
    monkeypatch.setattr(run, "_SHORTEST_S", 10 * DEADLINE_S)
    monkeypatch.setattr(run, "_LONGEST_WATCHED_S", 10 * DEADLINE_S)
    follower = following()
    write(tmp_path, 1)
    follower.wait_for(["/1"])


def test_without_inotify_files_are_looked_at(
    tmp_path: Path, following: Callable[[], Following], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "inotify_simple", None)
    assert Watch.open() is None
    follower = following()
    write(tmp_path, 1)
    follower.wait_for(["/1"])
    (tmp_path / "access.log").rename(tmp_path / "access.log.1")
    write(tmp_path, 2)
    follower.wait_for(["/1", "/2"])
