"""`service.usage` of real processes, and `sensor.usage` of hardware that a test makes up."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import signal
import subprocess
import sys
import time
from collections import namedtuple
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest

from eventstorm.errors import SettingError
from eventstorm.settings import load
from eventstorm_integrations.sysmon import sensors
from eventstorm_integrations.sysmon.cgroups import mount_points
from eventstorm_integrations.sysmon.chosen import _Pid, _PidFile, choices, descendants
from eventstorm_integrations.sysmon.figures import Figures, read_figures, together
from eventstorm_integrations.sysmon.sampler import Sampler
from eventstorm_integrations.sysmon.scan import Look, Process, Scanner, age_s, read_process
from eventstorm_integrations.sysmon.sensors import SensorCollector
from eventstorm_integrations.sysmon.services import ServiceCollector
from eventstorm_integrations.sysmon.settings import SysmonSettings
from eventstorm_integrations.sysmon.units import find_unit, pids_in

DEADLINE_S = 20.0


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
    for garbage in (b"", b"\xff\n", b"not yet", b"-5", b"0", b"9" * 60, b"12 34 56\n" * 1000):
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


def tree(root: Path, kind: str, *folders: str) -> Path:
    """Write a hierarchy of cgroups with one process of ours in each folder."""
    (root / "proc/self").mkdir(parents=True)
    mount = "31 23 0:27 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,xattr,name=systemd\n"
    if kind == "2":
        mount = "31 23 0:27 / /sys/fs/cgroup/systemd rw - cgroup2 cgroup2 rw\n"
    (root / "proc/self/mountinfo").write_text(f"1 1 0:1 / / rw - ext4 /dev/sda rw\n{mount}")
    top = root / "sys/fs/cgroup/systemd"
    top.mkdir(parents=True)
    for folder in folders:
        (top / folder).mkdir(parents=True)
        (top / folder / "cgroup.procs").write_text(f"{os.getpid()}\n")
    return top


@pytest.mark.parametrize("kind", ["1", "2"])
@pytest.mark.parametrize(
    "folder",
    [
        "system.slice/shop.service",
        "system.slice/system-shop.slice/shop.service",
        "user.slice/user-1000.slice/user@1000.service/app.slice/shop.service",
        "shop.service",
    ],
)
def test_a_unit_of_systemd_is_its_cgroup(kind: str, folder: str, tmp_path: Path) -> None:
    top = tree(tmp_path, kind, folder, "system.slice/shop.service.d", "system.slice/other.service")
    watched = Watched(services=("shop.service",), root=tmp_path)

    assert find_unit(tmp_path, "shop.service") == top / folder
    event = watched.only()
    assert event["service"] == {"name": "shop.service"}
    assert event["process"]["count"] == 1


def test_a_unit_has_the_processes_of_all_that_is_in_it(tmp_path: Path) -> None:
    top = tree(tmp_path, "2", "shop.slice/a.service/worker", "shop.slice/b.service")
    (top / "shop.slice/b.service/cgroup.procs").write_text(f"{os.getppid()}\n1\n")
    (top / "shop.slice/threaded").mkdir()
    (top / "shop.slice/threaded/cgroup.procs").write_bytes(b"\xff")

    assert pids_in(top / "shop.slice") == [os.getppid(), 1, os.getpid()]
    assert pids_in(top / "gone.slice") is None


def test_a_unit_that_stops_and_starts_is_found_again_but_not_looked_for_all_the_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked: list[str] = []
    module = sys.modules[choices.__module__]
    monkeypatch.setattr(module, "find_unit", lambda root, name: looked.append(name) or find_unit(root, name))
    (unit,) = choices((), ("shop.service",), tmp_path)
    assert unit.members(0.0, None) is None, "no cgroups at all"
    top = tree(tmp_path, "2")
    assert [unit.members(float(now_s), None) for now_s in range(1, 10)] == [None] * 9
    assert len(looked) == 1

    (top / "shop.service").mkdir()
    (top / "shop.service/cgroup.procs").write_text("1\n")
    assert unit.members(10.0, None) == {1: None}
    (top / "shop.service/cgroup.procs").unlink()
    (top / "shop.service").rmdir()
    assert unit.members(21.0, None) is None
    assert [unit.members(now_s, None) for now_s in (22.0, 30.0)] == [None, None]
    assert len(looked) == 3


def test_a_cgroup_of_the_kernel_is_measured_too() -> None:
    name = f"eventstorm-test-{os.getpid()}.service"
    for kind in ("name=systemd", ""):
        for point in mount_points(Path("/"), kind):
            with contextlib.suppress(OSError):
                (point / name).mkdir()
                break
    folder = find_unit(Path("/"), name)
    if folder is None:
        pytest.skip("no cgroup can be made here, which takes root")
    try:
        with running(FORKS) as process:
            try:
                (folder / "cgroup.procs").write_text(f"{process.pid}")
            except OSError as error:
                pytest.skip(f"no process can be moved there: {error}")
            assert Watched(services=(name,)).only()["process"]["count"] == 1, "its children stay where they are"
    finally:
        until(lambda: not _busy(folder))


def _busy(folder: Path) -> bool:
    with contextlib.suppress(OSError):  # until the kernel has buried its processes
        folder.rmdir()
    return folder.is_dir()


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


Temperature = namedtuple("Temperature", "label current high critical")
Fan = namedtuple("Fan", "label current")
Battery = namedtuple("Battery", "percent secsleft power_plugged")


def test_sensors_are_told_of_by_the_names_of_the_semantic_conventions(monkeypatch: pytest.MonkeyPatch) -> None:
    made_up = SimpleNamespace(
        sensors_temperatures=lambda: {
            "coretemp": [Temperature("Package id 0", 45.04, 80.0, 100.0), Temperature("", 41.0, None, None)],
            "broken\udcff": [Temperature("x", None, None, None), Temperature("", float("nan"), None, None)],
        },
        sensors_fans=lambda: {"thinkpad": [Fan("", 2400)]},
        sensors_battery=lambda: Battery(62.5, 3600, False),
    )
    monkeypatch.setattr(sensors, "psutil", made_up)
    collector = SensorCollector()

    assert collector.sample(0.0) == [
        {
            "hw": {
                "id": "coretemp-temperature-0",
                "type": "temperature",
                "name": "coretemp Package id 0",
                "temperature": 45.0,
                "limit": {"high": 80.0, "critical": 100.0},
            }
        },
        {"hw": {"id": "coretemp-temperature-1", "type": "temperature", "name": "coretemp", "temperature": 41.0}},
        {"hw": {"id": "thinkpad-fan-0", "type": "fan", "name": "thinkpad", "fan": {"speed": 2400}}},
        {
            "hw": {
                "id": "battery",
                "type": "battery",
                "name": "battery",
                "state": "discharging",
                "battery": {"charge": 0.625, "time_left": 3600},
            }
        },
    ]
    assert [now_s for now_s in range(1, 12) if collector.sample(float(now_s))] == [5, 10]


@pytest.mark.parametrize(
    "platform",
    [
        SimpleNamespace(),
        SimpleNamespace(sensors_temperatures=dict, sensors_fans=lambda: {"x": []}, sensors_battery=lambda: None),
    ],
    ids=["a platform without", "a machine without"],
)
def test_what_has_no_sensors_has_no_event_which_is_noted_once(
    platform: SimpleNamespace, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(sensors, "psutil", platform)
    collector = SensorCollector()
    with caplog.at_level(logging.INFO):
        assert [collector.sample(float(now_s)) for now_s in range(200)] == [[]] * 200

    assert len(caplog.records) == 1


def test_a_battery_that_does_not_know_its_time_has_none(monkeypatch: pytest.MonkeyPatch) -> None:
    full = SimpleNamespace(sensors_battery=lambda: Battery(100, psutil.POWER_TIME_UNLIMITED, True))
    monkeypatch.setattr(sensors, "psutil", full)

    (event,) = SensorCollector().sample(0.0)
    assert event["hw"]["state"] == "charging"
    assert event["hw"]["battery"] == {"charge": 1.0}
