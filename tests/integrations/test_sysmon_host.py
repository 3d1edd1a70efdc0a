"""The system metrics of the very machine that the tests run on."""

from __future__ import annotations

import logging
import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import bson
import psutil
import pytest

from eventstorm_integrations.sysmon.agent import SysmonAgent, run
from eventstorm_integrations.sysmon.sampler import Sampler
from eventstorm_integrations.sysmon.scan import Scanner, _LinuxFiles
from eventstorm_integrations.sysmon.settings import TOPICS, SysmonSettings

DOCUMENT = Path(__file__).parents[2] / "docs/sysmon.md"
BETWEEN_S = 0.3
# As long as a busy machine may take.
DEADLINE_S = 60.0


def everything(topic: str) -> bool:
    return True


def sampled(sampler: Sampler, wanted: Any = everything) -> dict[str, list[dict[str, Any]]]:
    found: dict[str, list[dict[str, Any]]] = {}
    for topic, event in sampler.sample(wanted, time.monotonic()):
        found.setdefault(topic, []).append(event)
    return found


def fields_of(document: Mapping[str, Any], path: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in document.items():
        if isinstance(value, dict):
            yield from fields_of(value, f"{path}{name}.")
        else:
            yield f"{path}{name}", value


@pytest.fixture(scope="module")
def second() -> dict[str, list[dict[str, Any]]]:
    """What is measured when there is something to compare with."""
    sampler = Sampler(SysmonSettings(pids=(os.getpid(),)))
    sampled(sampler)
    time.sleep(BETWEEN_S)  # the time that is measured
    return sampled(sampler)


def test_everything_is_measured_here(second: dict[str, list[dict[str, Any]]]) -> None:
    assert (
        {"cpu.usage", "memory.usage", "disk.usage", "network.usage", "process.usage", "service.usage"}
        <= second.keys()
        <= {*TOPICS}
    )


def test_shares_are_from_0_to_1_and_nothing_is_negative(second: dict[str, list[dict[str, Any]]]) -> None:
    for events in second.values():
        for event in events:
            for name, value in fields_of(event):
                for number in value if isinstance(value, list) else [value]:
                    if isinstance(number, (int, float)):
                        assert number >= 0, name
                        ratio = re.search(r"utilization|\.mode\.|logical", name) and name != "process.cpu.utilization"
                        assert number <= 1 or not ratio, name


def test_every_field_is_documented_with_its_topic(second: dict[str, list[dict[str, Any]]]) -> None:
    sections = re.split(r"^## `([\w.]+)`", DOCUMENT.read_text("utf-8"), flags=re.MULTILINE)
    documented = {
        topic: set(re.findall(r"^\| `([\w.]+)`", text, re.MULTILINE))
        for topic, text in zip(sections[1::2], sections[2::2], strict=True)
    }

    assert documented.keys() == {*TOPICS}
    for topic, events in second.items():
        for event in events:
            assert {name for name, _ in fields_of(event)} <= documented[topic]


def test_every_event_can_be_sent(second: dict[str, list[dict[str, Any]]]) -> None:
    for events in second.values():
        for event in events:
            assert bson.decode(bson.encode(event)) == event


def test_cores_and_memory_are_those_of_this_machine(second: dict[str, list[dict[str, Any]]]) -> None:
    (cpu,) = second["cpu.usage"]
    (memory,) = second["memory.usage"]

    assert len(cpu["system"]["cpu"]["logical"]) == psutil.cpu_count()
    assert memory["system"]["memory"]["limit"] == psutil.virtual_memory().total


def test_the_first_sample_has_no_rates() -> None:
    assert sampled(Sampler(SysmonSettings())).keys() == {"memory.usage", "disk.usage"}


def test_a_busy_process_is_among_the_busiest_with_name_and_owner() -> None:
    sampler = Sampler(SysmonSettings(topics=("process.usage",)))
    sampled(sampler)
    with subprocess.Popen([sys.executable, "-c", "while True: pass"]) as busy:
        try:
            deadline = time.monotonic() + DEADLINE_S
            while time.monotonic() < deadline:
                time.sleep(BETWEEN_S)  # the time that is measured
                found = [event["process"] for event in sampled(sampler).get("process.usage", [])]
                ours = [each for each in found if each["pid"] == busy.pid and each["cpu"]["utilization"] > 0.1]
                if ours:
                    break
        finally:
            busy.kill()

    assert [each["rank"] for each in found] == list(range(1, len(found) + 1))
    assert len(found) == min(10, len(psutil.pids()))
    assert ours[0]["executable"]["name"].startswith("python")
    assert ours[0]["owner"] == psutil.Process().username()


def test_a_process_that_has_ended_is_not_read_from_the_file_that_is_still_open(monkeypatch: pytest.MonkeyPatch) -> None:
    files = _LinuxFiles()
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as ended:
        before = {each.pid: each for each in files.read()}
    real, ours = os.listdir("/proc"), str(os.getpid())
    monkeypatch.setattr(os, "listdir", lambda path: [str(ended.pid), ours] if path == "/proc" else real)

    assert before[ended.pid].parent == os.getpid()
    assert [each.pid for each in files.read()] == [os.getpid()], "the open file says that its process is gone"


def test_processes_beyond_the_files_that_may_stay_open_are_read_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("eventstorm_integrations.sysmon.scan._MOST_OPEN", 2)
    files = _LinuxFiles()
    for _ in range(2):
        assert os.getpid() in {each.pid for each in files.read()}


def test_what_nobody_wants_is_not_measured_and_begins_afresh() -> None:
    sampler = Sampler(SysmonSettings())
    sampled(sampler)

    assert sampled(sampler, lambda topic: topic == "memory.usage").keys() == {"memory.usage"}
    assert sampled(sampler).keys() == {"memory.usage", "disk.usage"}


def test_no_processes_are_read_if_none_are_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Scanner, "look", lambda *arguments: pytest.fail("read"))
    sampler = Sampler(SysmonSettings(processes=0))

    assert "process.usage" not in sampled(sampler)


def test_what_is_lacking_is_left_out_and_noted_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def lacking(**options: object) -> None:
        raise NotImplementedError("no /proc/diskstats here")

    monkeypatch.setattr(psutil, "disk_io_counters", lacking)
    sampler = Sampler(SysmonSettings())
    with caplog.at_level(logging.WARNING):
        sampled(sampler)
        time.sleep(BETWEEN_S)  # the time that is measured
        found = sampled(sampler)

    assert "disk.io" not in found
    assert {"cpu.usage", "network.usage", "process.usage"} <= found.keys()
    assert [record.getMessage() for record in caplog.records] == [
        "disk.io cannot be measured here and is left out: NotImplementedError: no /proc/diskstats here"
    ]


def test_a_mountpoint_may_have_any_name_and_may_be_gone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    strange = os.fsdecode(os.fsencode(tmp_path) + b"/\xff")
    os.mkdir(strange)
    mounts = [
        SimpleNamespace(device="/dev/sdx", mountpoint=f"{tmp_path}/gone", fstype="ext4", opts="rw"),
        SimpleNamespace(device="/dev/sdy", mountpoint=strange, fstype="ext4", opts="rw"),
    ]
    monkeypatch.setattr(psutil, "disk_partitions", lambda all: mounts)

    (event,) = sampled(Sampler(SysmonSettings(topics=("disk.usage",))))["disk.usage"]

    assert event["system"]["filesystem"]["mountpoint"] == f"{tmp_path}/\ufffd"
    bson.encode(event)


class Collected:
    """Stands in for a source."""

    def __init__(self) -> None:
        self.events: list[tuple[str, Mapping[str, Any]]] = []
        self.arrived = threading.Event()

    def emit(self, topic: str, event: Mapping[str, Any], /) -> bool:
        self.events.append((topic, event))
        self.arrived.set()
        return True

    def wanted(self, topic: str) -> bool:
        return topic == "memory.usage"


def test_the_agent_emits_until_it_is_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EVENTSTORM_SYSMON_INTERVAL_S", "0.1")
    source = Collected()
    agent = SysmonAgent(source)
    agent.start()
    try:
        assert source.arrived.wait(DEADLINE_S)
    finally:
        agent.stop(DEADLINE_S)
    count = len(source.events)

    assert {topic for topic, _ in source.events} == {"memory.usage"}
    assert not any(thread.name == "eventstorm-sysmon" for thread in threading.enumerate())
    assert len(source.events) == count


def test_an_agent_that_never_started_can_be_stopped() -> None:
    SysmonAgent(Collected()).stop(0.1)


def test_a_stop_ends_a_long_interval_at_once() -> None:
    stop = threading.Event()
    stop.set()
    run(Sampler(SysmonSettings()), 3600.0, Collected(), stop)
