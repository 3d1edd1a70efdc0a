"""`service.usage` of real processes."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from eventstorm.errors import SettingError
from eventstorm.settings import load
from eventstorm_integrations.sysmon.chosen import _Pid, _PidFile, descendants
from eventstorm_integrations.sysmon.figures import Figures, read_figures, together
from eventstorm_integrations.sysmon.sampler import Sampler
from eventstorm_integrations.sysmon.scan import Look, Process, Scanner, age_s, read_process
from eventstorm_integrations.sysmon.services import ServiceCollector
from eventstorm_integrations.sysmon.settings import SysmonSettings
from integrations.sysmon_processes import DEADLINE_S, FORKS, WAITS, Watched, running, until


def test_a_process_that_burns_cpu_and_opens_files_is_told_of() -> None:
    code = """
import os, sys, threading
files = [open(os.devnull) for _ in range(40)]
threads = [threading.Thread(target=sys.stdin.read, daemon=True).start() for _ in range(2)]
print("ready", flush=True)
while True: pass
"""
    with running(code) as process:
        watched = Watched((process.pid,))
        first = watched.only()
        until(lambda: read_process(process.pid).cpu_s > first["process"]["cpu"]["time"] + 0.2)  # type: ignore[union-attr]
        event = watched.only()

    told = event["process"]
    assert event["service"]["name"].endswith(f"({process.pid})")
    assert "utilization" not in first["process"]["cpu"]
    assert 0.0 < told["cpu"]["utilization"] < 1.5
    assert told["cpu"]["time"] >= first["process"]["cpu"]["time"] + 0.2
    assert told["count"] == 1
    assert told["thread"]["count"] == 3
    assert told["unix"]["file_descriptor"]["count"] >= 40
    assert told["memory"]["usage"] > 2**20
    assert told["memory"]["virtual"] >= told["memory"]["usage"]
    assert told["disk"]["io"].keys() == {"read", "write"}
    assert told["context_switches"]["involuntary"] >= 0


def test_the_children_of_a_process_count_with_it() -> None:
    with running(FORKS) as process:
        event = Watched((process.pid,)).only()

    assert event["process"]["count"] == 4


def test_what_a_child_used_in_its_short_life_is_not_taken_back() -> None:
    code = """
import os, sys
child = os.fork()
if not child:
    while True: pass
print("ready", flush=True)
sys.stdin.readline()
os.kill(child, 9); os.wait()
print("gone", flush=True)
sys.stdin.read()
"""
    with running(code) as process:
        watched = Watched((process.pid,))
        watched.only()
        before = until(lambda: (each := watched.only()["process"])["cpu"]["time"] > 0.2 and each)
        assert process.stdin
        assert process.stdout
        process.stdin.write("\n")
        process.stdin.flush()
        assert process.stdout.readline() == "gone\n"
        after = watched.only()["process"]

    assert (before["count"], after["count"]) == (2, 1)
    assert after["cpu"]["time"] >= before["cpu"]["time"]


def test_a_process_that_ends_is_told_of_once_more_and_never_again(caplog: pytest.LogCaptureFixture) -> None:
    with running(WAITS) as process, caplog.at_level(logging.INFO):
        watched = Watched((process.pid,))
        watched.only()
        process.kill()
        name, last = until(lambda: (each := watched.only())["process"]["count"] == 0 and (each["service"], each))
        process.wait()

        assert last == {"service": name, "process": {"count": 0}}
        assert [watched.sample() for _ in range(5)] == [[]] * 5
        assert [record.getMessage() for record in caplog.records] == [f"{name['name']!r} has ended"]


def test_a_zombie_is_no_process_any_more() -> None:
    with running(WAITS) as process:
        process.kill()
        until(lambda: (each := read_process(process.pid)) and each.is_zombie)

        assert read_figures(process.pid) is None


def test_a_number_that_is_used_again_is_never_taken_for_the_same_process() -> None:
    first = Process(4711, 100.0, "shop", 5.0, 2**20)
    now = {4711: first}
    chosen = _Pid(4711, now.get)
    collector = ServiceCollector(
        [chosen], Scanner(lambda: now.values()), set(), lambda pid: Figures(now[pid]), lambda: 0.0
    )
    assert [event["process"]["count"] for event in collector.sample(1.0)] == [1]

    now[4711] = first._replace(started=200.0)
    assert [event["process"]["count"] for event in collector.sample(2.0)] == [0]
    now[4711] = first
    assert collector.sample(3.0) == [], "not even if the clock said so"


def test_a_process_is_the_one_that_had_the_number_when_the_sampler_was_built() -> None:
    with running(WAITS) as process:
        sampler = Sampler(SysmonSettings(pids=(process.pid,), topics=("service.usage",)))
    # Nobody has listened until now.
    assert list(sampler.sample(lambda topic: True, 1.0)) == []


def test_a_child_whose_number_was_used_again_is_left_out() -> None:
    with running(FORKS) as process:
        parent = read_process(process.pid)
        assert parent
        stale = Process(os.getpid(), parent.started - 1, "older", 0.0, 0, parent=parent.pid)
        look = Look(0.0, [parent, stale], {})
        assert descendants([parent], look) == {parent.pid: parent.started}

        younger = stale._replace(started=parent.started + 10**9)
        collector = Watched((process.pid,)).collector
        members = descendants([parent], Look(0.0, [parent, younger], {}))
        assert [each.process.pid for each in collector._measure(members)] == [parent.pid]


def test_parents_in_a_circle_end() -> None:
    one, two = Process(1, 0, "a", 0.0, 0, parent=2), Process(2, 0, "b", 0.0, 0, parent=1)

    assert descendants([one], Look(0.0, [one, two], {})) == {1: 0, 2: 0}


def test_of_a_process_that_joined_only_what_it_does_from_then_on_counts() -> None:
    old = Process(1, 0.0, "old", 1000.0, 0)
    age = age_s(old)
    assert age > 100, "it began with the machine"
    young = Process(2, old.started + (age - 0.5) * os.sysconf("SC_CLK_TCK"), "young", 0.25, 0)
    members: dict[int, Process] = {3: old._replace(pid=3)}
    choice = SimpleNamespace(name="x", needs_look=False, members=lambda now_s, look: dict.fromkeys(members))
    collector = ServiceCollector([choice], Scanner(), set(), lambda pid: Figures(members[pid]), lambda: 0.0)
    collector.sample(10.0)
    members.update({1: old, 2: young})
    (event,) = collector.sample(11.0)

    assert event["process"]["cpu"] == {"utilization": 0.25, "time": 2000.25}


def test_what_cannot_be_seen_of_one_is_not_told_of_all() -> None:
    assert together([1, None]) is None
    assert together([]) is None
    assert together([1, 2.5]) == 3.5


def test_a_program_is_found_by_its_name_when_it_comes(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    program = tmp_path / "shop-of-a-very-long-name"
    program.symlink_to("/bin/sleep")
    watched = Watched(services=(program.name, "shop-of-a-very-short-name"))
    assert [watched.sample() for _ in range(3)] == [[]] * 3
    assert len([record for record in caplog.records if program.name in record.getMessage()]) == 1

    with subprocess.Popen([str(program), "60"]) as process:
        try:
            event = until(lambda: (events := watched.sample()) and events[0])
        finally:
            process.kill()

    assert event["service"] == {"name": program.name}
    assert event["process"]["count"] == 1


@pytest.mark.skipif(sys.platform != "linux", reason="names are changed through /proc")
@pytest.mark.parametrize("name", [b"a\nb) R 1 (c", b"\xff\xfe\n", b") Z 1 1", b"(((", b"\x1b[31m"])
def test_a_name_may_be_anything(name: bytes) -> None:
    code = f"open('/proc/self/comm', 'wb').write({name!r}); {WAITS}"
    with running(code) as process:
        wanted = os.fsdecode(name)
        by_pid, by_name = Watched((process.pid,)).only(), Watched(services=(wanted,)).only()

    shown = name.decode("utf-8", "replace")
    assert by_pid["service"]["name"] == f"{shown} ({process.pid})"
    assert by_name["service"]["name"] == shown
    assert by_pid["process"]["count"] == by_name["process"]["count"] == 1
    json.dumps([by_pid, by_name]).encode()


def test_a_pid_file_is_read_anew(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    file = tmp_path / "shop.pid"
    watched = Watched(services=(str(file),))
    assert watched.sample() == []
    # The last of them begins with a number that is larger than any of a process on Linux.
    for garbage in (b"", b"\xff\n", b"not yet", b"-5", b"0", b"9" * 60, b"4194305 2 3\n" * 1000):
        file.write_bytes(garbage)
        assert watched.sample() == []
    file.unlink()
    os.mkfifo(file)
    assert watched.sample() == []
    file.unlink()
    assert len(caplog.records) == 1

    for _ in range(2):
        with running(WAITS) as process:
            file.write_text(f"{process.pid}\n")
            assert watched.only()["process"]["count"] == 1
        until(lambda: watched.only()["process"] == {"count": 0})
        assert watched.sample() == []


def test_a_pid_file_that_was_left_behind_names_nobody(tmp_path: Path) -> None:
    file = tmp_path / "shop.pid"
    file.write_text("4711")
    first = Process(4711, 100.0, "shop", 0.0, 0)
    now = {4711: first}
    chosen = _PidFile(str(file), now.get)
    assert chosen.members(0.0, None) == {4711: 100.0}

    now[4711] = first._replace(started=200.0)
    assert chosen.members(1.0, None) is None
    os.utime(file, ns=(1, 1))
    assert chosen.members(2.0, None) == {4711: 200.0}, "written again"


def test_many_processes_are_measured_less_often() -> None:
    cpu_s = iter(range(1000))
    choice = SimpleNamespace(name="x", needs_look=False, members=lambda now_s, look: {os.getpid(): None})
    costs = ServiceCollector([choice], Scanner(), set(), clock=lambda: next(cpu_s) * 0.0085)

    assert [now_s for now_s in range(12) if costs.sample(float(now_s))] == [0, 1, 4, 7, 10]


@pytest.mark.parametrize(
    ("keywords", "told"),
    [
        ({"pids": (0,)}, "sysmon.pids: 0 is no number of a process"),
        ({"pids": "1 two"}, "'two' is not a whole number"),
        ({"services": ("",)}, "'' is no service"),
    ],
)
def test_a_wrong_choice_is_told(keywords: dict[str, Any], told: str) -> None:
    with pytest.raises(SettingError, match=told):
        load(SysmonSettings, "sysmon", keywords)


def test_choices_are_lines_of_the_configuration_too(tmp_path: Path) -> None:
    file = tmp_path / "eventstorm.toml"
    file.write_text('[sysmon]\npids = [1, 2]\nservices = ["nginx.service"]\n')
    settings = load(SysmonSettings, "sysmon", {}, file)

    assert (settings.pids, settings.services) == ((1, 2), ("nginx.service",))
    file.write_text('[sysmon]\npids = "1"\n')
    with pytest.raises(SettingError, match="write a list of whole numbers without quotes"):
        load(SysmonSettings, "sysmon", {}, file)


def test_the_command_measures_what_it_is_given() -> None:
    command = [str(Path(sys.executable).with_name("eventstorm-sysmon")), "--print", "--once", "--interval", "0.2"]
    command += ["--topic", "service.usage", "--pid", str(os.getpid()), "--pid", "2147483647"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=DEADLINE_S, check=False)

    (line,) = done.stdout.splitlines()
    assert json.loads(line)["data"]["service"]["name"].endswith(f"({os.getpid()})")
    assert "'process 2147483647' does not run" in done.stderr
