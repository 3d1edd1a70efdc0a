"""``eventstorm up`` as a process: what a person who starts it sees, now and after the next start."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shlex
import signal
import socket
import subprocess
import sys
import time
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb
import pytest

from eventstorm import Source
from eventstorm.settings import SdkSettings, load
from eventstorm_sinks.commands.up import UpSettings

PROGRAM = str(Path(sys.executable).with_name("eventstorm"))
FREE_PORTS = ("--ingress", "tcp://127.0.0.1:0", "--egress", "tcp://127.0.0.1:0", "--http", "127.0.0.1:0")
# As long as a busy machine may take.
DEADLINE_S = 60.0
# Twice what is promised, since tests run on busy machines; the benchmark measures it.
STOP_S = 10.0


def wait_until(condition: Callable[[], Any], what: object = "") -> Any:
    """Return what `condition` gives when that is true; fail the test if it never is."""
    deadline = time.monotonic() + DEADLINE_S
    while not (result := condition()):
        assert time.monotonic() < deadline, f"not in time: {what() if callable(what) else what}"
        time.sleep(0.02)  # between two looks at another process
    return result


@dataclass
class Up:
    """A running ``eventstorm up``."""

    process: subprocess.Popen[bytes]
    log: Path
    environment: dict[str, str]

    def told(self) -> str:
        """Return what it has printed to standard error."""
        return self.log.read_text()

    @property
    def url(self) -> str:
        """Return where the page is."""
        found = re.search(r"the page is at (http://\S+),", self.told())
        assert found, self.told()
        return found[1]

    def hint(self, command: str) -> list[str]:
        """Return a command that it told to try."""
        (line,) = [line for line in self.told().splitlines() if line.startswith(f"  eventstorm {command} ")]
        return [PROGRAM, *shlex.split(line)[1:]]

    def emit(self, events: int = 1) -> None:
        """Emit so many events into it."""
        source = Source(SdkSettings(endpoint=self.hint("emit")[3], service="shop"))
        for number in range(events):
            source.emit("shop.order", {"number": number})
        source.close(DEADLINE_S)
        assert source.stats()["sent"] == events

    def get(self, path: str, **parameters: str) -> Any:
        """Ask its HTTP API."""
        query = urllib.parse.urlencode(parameters)
        with urllib.request.urlopen(f"{self.url}{path}?{query}", timeout=DEADLINE_S) as answer:
            return json.loads(answer.read())

    def topics(self) -> dict[str, int]:
        """Return how many events of each topic it has stored."""
        return {each["topic"]: each["events"] for each in self.get("/api/topics")["topics"]}

    def wait_for(self, topic: str, events: int = 1) -> None:
        """Wait until it has stored so many."""
        wait_until(lambda: self.topics().get(topic, 0) >= events, lambda: f"{topic}: {self.topics()}; {self.told()}")

    def stop(self, number: int = signal.SIGTERM) -> int:
        """Signal it, and return its exit code."""
        self.process.send_signal(number)
        return self.process.wait(STOP_S)


@contextlib.contextmanager
def starting(folder: Path, *options: str, **variables: str) -> Iterator[Up]:
    """Start it with its data in `folder`; it is gone afterwards."""
    log = folder / f"stderr-{time.monotonic_ns()}"
    environment = os.environ | {"XDG_DATA_HOME": str(folder / "data")} | variables
    with log.open("wb") as output:
        process = subprocess.Popen([PROGRAM, "up", *options], cwd=folder, env=environment, stderr=output)
    try:
        yield Up(process, log, environment)
    finally:
        process.kill()
        process.wait()


@contextlib.contextmanager
def running(folder: Path, *options: str, **variables: str) -> Iterator[Up]:
    """Start it on free ports, and wait until it is ready."""
    with starting(folder, *FREE_PORTS, *options, **variables) as up:
        wait_until(lambda: "Ctrl-C" in up.told() or up.process.poll() is not None)
        assert up.process.poll() is None, up.told()
        yield up


def failing(folder: Path, *options: str) -> tuple[int, str]:
    """Start it where it cannot; return the exit code and what it told."""
    with starting(folder, *options) as up:
        code = up.process.wait(DEADLINE_S)
        return code, up.told()


def stored(file: Path, query: str) -> list[tuple[Any, ...]]:
    """Ask a file that nobody has open."""
    with duckdb.connect(str(file), read_only=True) as connection:
        return connection.execute(query).fetchall()


@pytest.fixture(scope="module")
def up(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Up]:
    """One that the tests share which only look."""
    with running(tmp_path_factory.mktemp("up")) as up:
        yield up


def test_the_metrics_of_this_host_arrive_in_the_store(up: Up) -> None:
    for topic in ("cpu.usage", "memory.usage", "disk.usage", "network.usage", "process.usage"):
        up.wait_for(topic, 2)

    (event, *_) = up.get("/api/events", topic="cpu.usage", limit="1")["events"]
    assert event["service"] == "sysmon"


def test_its_first_line_tells_where_the_page_and_the_events_are(up: Up) -> None:
    first = up.told().splitlines()[0]

    assert first.startswith(f"eventstorm up: ready: the page is at {up.url}, storing into duckdb:{up.log.parent}/data/")
    assert first.endswith(", measuring by sysmon")
    with urllib.request.urlopen(up.url, timeout=DEADLINE_S) as page:
        assert b"<html" in page.read()


def test_the_event_that_it_tells_to_try_arrives(up: Up) -> None:
    subprocess.run(up.hint("emit"), check=True, timeout=DEADLINE_S)
    up.wait_for("shop.order")

    (event, *_) = up.get("/api/events", topic="shop.order", limit="1")["events"]
    assert event["service"] == "eventstorm-emit"


def test_the_tap_that_it_tells_to_try_shows_events(up: Up) -> None:
    with subprocess.Popen([*up.hint("tap"), "--count", "1"], stdout=subprocess.PIPE) as tap:
        try:
            # A subscription that is still on its way to the router hears nothing, so until one is heard.
            wait_until(lambda: (up.emit(), tap.poll() is not None)[1])
            assert tap.stdout
            assert b"shop.order" in tap.stdout.read()
        finally:
            tap.kill()


def test_it_needs_less_than_250_mb(up: Up) -> None:
    up.wait_for("process.usage", 10)
    found = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{up.process.pid}/status").read_text())

    assert found
    assert int(found[1]) * 1024 < 250e6


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_stops_it_with_everything_stored(number: int, tmp_path: Path) -> None:
    with running(tmp_path, "--store", f"duckdb:{tmp_path}/it.duckdb", "--no-sysmon") as up:
        up.emit(3)
        code = up.stop(number)

    assert code == 0
    assert re.search(r"stopped; stored \d+ events in duckdb:", up.told().splitlines()[-1])
    assert "Traceback" not in up.told()
    assert stored(tmp_path / "it.duckdb", "SELECT count(*) FROM events WHERE topic = 'shop.order'") == [(3,)]
    assert not (tmp_path / "it.duckdb.wal").exists()


def test_without_sysmon_nothing_is_measured(tmp_path: Path) -> None:
    with running(tmp_path, "--no-sysmon") as up:
        up.emit()
        up.wait_for("shop.order")

        assert "measuring" not in up.told()
        assert {topic for topic in up.topics() if not topic.startswith("eventstorm.")} == {"shop.order"}


def test_history_is_there_after_a_restart(tmp_path: Path) -> None:
    with running(tmp_path) as up:
        up.emit()
        up.wait_for("shop.order")
        up.wait_for("cpu.usage")
        up.stop()
    with running(tmp_path) as up:
        up.emit()
        up.wait_for("shop.order", 2)

        assert up.topics()["cpu.usage"] >= 1


def test_after_kill_9_it_starts_again_with_what_was_committed(tmp_path: Path) -> None:
    with running(tmp_path) as up:
        up.emit()
        up.wait_for("shop.order")
        up.process.kill()
        up.process.wait()
    with running(tmp_path) as up:
        up.emit()
        up.wait_for("shop.order", 2)

        assert "was not closed" in up.told()


@pytest.mark.parametrize("option", ["--ingress", "--egress", "--http"])
def test_a_port_in_use_is_named_with_its_option(option: str, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        endpoint = address if option == "--http" else f"tcp://{address}"
        code, told = failing(tmp_path, *FREE_PORTS, option, endpoint)

    assert code == 3
    assert told.startswith(f"eventstorm up: {option}: cannot ")
    assert address in told
    assert len(told.splitlines()) == 1


def test_an_eventstorm_that_runs_there_already_is_recognised(up: Up, tmp_path: Path) -> None:
    ingress = up.hint("emit")[3]

    code, told = failing(tmp_path, *FREE_PORTS, "--ingress", ingress, "--http", up.url.removeprefix("http://"))
    assert code == 3
    assert f"An eventstorm runs already: its page is at {up.url}" in told

    code, told = failing(tmp_path, *FREE_PORTS, "--ingress", ingress)
    assert code == 3
    assert f"At {ingress} there is something that speaks ZeroMQ" in told


def test_a_store_that_another_process_has_open_is_told(up: Up, tmp_path: Path) -> None:
    store = f"duckdb:{up.log.parent}/data/eventstorm/events.duckdb"
    code, told = failing(tmp_path, *FREE_PORTS, "--store", store)

    assert code == 3
    assert f"in use by process {up.process.pid}" in told


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (("--http", "0.0.0.0:0"), "--insecure"),
        (("--keep", "soon"), "sink.keep: 'soon' is not understood"),
        (("--store", "nowhere:x"), "no store 'nowhere'"),
        (("--config", "missing.toml"), "missing.toml"),
    ],
)
def test_wrong_usage_is_told_before_anything_starts(options: tuple[str, ...], told: str, tmp_path: Path) -> None:
    code, text = failing(tmp_path, *FREE_PORTS, *options)

    assert code == 2
    assert told in text
    assert len(text.splitlines()) == 1


def test_a_wrong_setting_of_an_agent_is_told_too(tmp_path: Path) -> None:
    (tmp_path / "eventstorm.toml").write_text("[sysmon]\ninterval = 5\n")
    code, told = failing(tmp_path, *FREE_PORTS)

    assert code == 2
    assert "did you mean 'interval_s'?" in told


def test_the_configuration_file_is_for_all_parts(tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text('[sysmon]\ntopics = ["memory.usage"]\n\n[sdk]\nhost = "here"\n')
    with running(tmp_path, "--config", "mine.toml") as up:
        up.wait_for("memory.usage", 2)
        (event, *_) = up.get("/api/events", topic="memory.usage", limit="1")["events"]

        assert "cpu.usage" not in up.topics()
        assert event["host"] == "here"


def test_services_that_are_chosen_in_the_configuration_file_are_measured(tmp_path: Path) -> None:
    (tmp_path / "eventstorm.toml").write_text(f'[sysmon]\npids = [{os.getpid()}]\nservices = ["nobody.service"]\n')
    with running(tmp_path, *FREE_PORTS) as up:
        up.wait_for("service.usage")
        (event, *_) = up.get("/api/events", topic="service.usage")["events"]

    assert json.loads(event["text"])["service"]["name"].endswith(f"({os.getpid()})")
    assert "'nobody.service' does not run" in up.told()


def test_every_store_gets_every_event(tmp_path: Path) -> None:
    with running(tmp_path, "--store", "duckdb:a.duckdb", "--store", "jsonl:b.jsonl", "--no-sysmon", "--http", "") as up:
        assert "ready: no page, storing into duckdb:a.duckdb and jsonl:b.jsonl" in up.told()
        up.emit()
        assert up.stop() == 0

    assert stored(tmp_path / "a.duckdb", "SELECT count(*) FROM events WHERE topic = 'shop.order'") == [(1,)]
    assert '"shop.order"' in (tmp_path / "b.jsonl").read_text()


def test_it_keeps_30_days_and_10_gb_unless_told_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    assert load(UpSettings, "sink", {}).keep == "30d"
    assert load(UpSettings, "sink", {}).keep_size == "10GB"

    monkeypatch.setenv("EVENTSTORM_SINK_KEEP", "7d")
    assert load(UpSettings, "sink", {}).keep == "7d"
    assert load(UpSettings, "sink", {"keep": ""}).keep == ""


PLUG_INS = """
import time

class Broken:
    def __init__(self, source, config):
        raise RuntimeError("no sensor")

class NeedsMore:
    def __init__(self, source, config):
        import a_library_that_is_not_there

class Stubborn:
    def __init__(self, source, config):
        self.source = source
    def start(self):
        self.source.emit("stubborn.here", {"name": "it"})
    def stop(self, timeout_s):
        time.sleep(60)

class SlowToClose:
    def __init__(self, location, settings): pass
    def write(self, *arguments): pass
    def books(self): return []
    def read(self, *arguments): return iter(())
    def maintain(self): pass
    def close(self):
        print("closing", flush=True, file=__import__("sys").stderr)
        time.sleep(60)
"""


def install(folder: Path, entries: str) -> str:
    """Make a distribution with these entry points; return the path to find it in."""
    site = folder / "site"
    (site / "plugins-1.dist-info").mkdir(parents=True)
    (site / "plugins-1.dist-info/METADATA").write_text("Metadata-Version: 2.1\nName: plugins\nVersion: 1\n")
    (site / "plugins-1.dist-info/entry_points.txt").write_text(entries)
    (site / "plugins.py").write_text(PLUG_INS)
    return str(site)


def test_a_broken_agent_stops_nothing_else_and_is_told(tmp_path: Path) -> None:
    entries = ("aaa = plugins:Broken", "bbb = nowhere:Missing", "ccc = plugins:NeedsMore", "sss = plugins:Stubborn")
    agents = "\n".join(["[eventstorm.agents]", *entries])
    with running(tmp_path, PYTHONPATH=install(tmp_path, agents)) as up:
        up.wait_for("stubborn.here")
        up.wait_for("cpu.usage")
        code = up.stop()

    assert code == 0
    assert "aaa does not run: RuntimeError: no sensor" in up.told()
    assert "bbb does not run: ModuleNotFoundError: No module named 'nowhere'\n" in up.told()
    assert "not_there'; install it with: pip install 'plugins[ccc]'" in up.told()
    assert "measuring by sss and sysmon, without aaa and bbb and ccc, see above" in up.told()


def test_a_second_ctrl_c_ends_a_stop_that_hangs(tmp_path: Path) -> None:
    stores = install(tmp_path, "[eventstorm.stores]\nslow = plugins:SlowToClose\n")
    with running(tmp_path, "--no-sysmon", "--store", "slow:", PYTHONPATH=stores) as up:
        up.process.send_signal(signal.SIGINT)
        wait_until(lambda: "closing" in up.told(), up.told)
        assert up.process.poll() is None
        code = up.stop(signal.SIGINT)

    assert code == 128 + signal.SIGINT
    assert "Traceback" not in up.told()
