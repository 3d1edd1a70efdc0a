"""The arithmetic of the system metrics: rates, shares, the choice of mounts and processes, and when to measure."""

from __future__ import annotations

import itertools
import random

import pytest

from eventstorm_integrations.sysmon.cpu import utilizations
from eventstorm_integrations.sysmon.filesystems import Mount, worth_asking
from eventstorm_integrations.sysmon.processes import busiest
from eventstorm_integrations.sysmon.rates import Rates
from eventstorm_integrations.sysmon.sampler import until_next_s
from eventstorm_integrations.sysmon.scan import Look, Process, Scanner, parse_stat


def test_a_rate_is_the_growth_a_second() -> None:
    rates = Rates()
    rates.update({"eth0": (1000, 5)}, 10.0)

    assert rates.update({"eth0": (4000, 5)}, 12.0) == {"eth0": [1500.0, 0.0]}


def test_what_has_just_appeared_has_no_rate_yet() -> None:
    rates = Rates()
    rates.update({"sda": (1,)}, 0.0)

    assert rates.update({"sda": (2,), "sdb": (10**9,)}, 1.0) == {"sda": [1.0]}
    assert rates.update({"sda": (2,), "sdb": (10**9,)}, 2.0).keys() == {"sda", "sdb"}


@pytest.mark.parametrize("after", [(5, 200), (200, 5)])
def test_a_counter_that_went_back_is_skipped_once(after: tuple[int, int]) -> None:
    rates = Rates()
    rates.update({"eth0": (100, 100)}, 0.0)

    assert rates.update({"eth0": after}, 1.0) == {}
    assert rates.update({"eth0": (after[0] + 1, after[1])}, 2.0) == {"eth0": [1.0, 0.0]}


def test_what_was_away_begins_afresh() -> None:
    rates = Rates()
    rates.update({"usb": (100,)}, 0.0)
    rates.update({}, 1.0)

    assert rates.update({"usb": (500,)}, 2.0) == {}


def test_no_rate_without_time_between() -> None:
    rates = Rates()
    rates.update({"eth0": (1,)}, 1.0)

    assert rates.update({"eth0": (2,)}, 1.0) == {}


def times(**spent: float) -> dict[str, float]:
    return {"user": 0.0, "nice": 0.0, "system": 0.0, "idle": 0.0, "iowait": 0.0, "irq": 0.0, "softirq": 0.0} | spent


def test_utilization_is_the_share_of_time_that_is_neither_idle_nor_waiting() -> None:
    before = [times(), times()]
    after = [times(user=1.0, system=0.5, idle=0.5), times(idle=1.0, iowait=0.6, softirq=0.4)]

    assert utilizations(before, after) == {
        "utilization": 0.475,
        "logical": [0.75, 0.2],
        "mode": {"user": 0.25, "system": 0.125, "iowait": 0.15, "nice": 0.0, "irq": 0.1},
    }


def test_a_guest_is_counted_once() -> None:
    usage = utilizations([times(guest=0.0)], [times(user=1.0, guest=1.0, idle=1.0)])

    assert usage is not None
    assert usage["utilization"] == 0.5


def test_idle_time_that_went_back_counts_as_none() -> None:
    usage = utilizations([times(idle=5.0)], [times(idle=4.0, user=1.0)])

    assert usage is not None
    assert usage["logical"] == [1.0]


def test_a_core_that_comes_or_goes_leaves_one_sample_out() -> None:
    assert utilizations([times()], [times(user=1.0), times(user=1.0)]) is None
    assert utilizations([times(), times()], [times(user=1.0)]) is None


def test_clocks_that_stand_still_give_no_sample() -> None:
    assert utilizations([times(user=1.0)], [times(user=1.0)]) is None


ROOT = Mount("/dev/vda1", "/", "ext4")


@pytest.mark.parametrize(
    "mount",
    [
        Mount("server:/home", "/home", "nfs4"),
        Mount("//server/share", "/mnt/share", "cifs"),
        Mount("me@server:", "/mnt/ssh", "fuse.sshfs"),
        Mount("/dev/fuse", "/run/user/1000/doc", "fuse.portal"),
    ],
    ids=lambda mount: mount.type,
)
def test_a_filesystem_that_may_hang_is_never_asked(mount: Mount) -> None:
    assert worth_asking([ROOT, mount]) == [ROOT]


@pytest.mark.parametrize(
    "mount",
    [
        Mount("tmpfs", "/run", "tmpfs"),
        Mount("proc", "/proc", "proc"),
        Mount("/dev/loop3", "/snap/core/1", "squashfs"),
        Mount("overlay", "/var/lib/docker/overlay2/abc/merged", "overlay"),
    ],
    ids=lambda mount: mount.type,
)
def test_what_is_no_disk_is_left_out(mount: Mount) -> None:
    assert worth_asking([ROOT, mount]) == [ROOT]


def test_a_device_is_reported_once_at_its_shortest_path() -> None:
    data = Mount("/dev/sdb", "/data", "xfs")
    again = Mount("/dev/sdb", "/srv/data", "xfs")

    assert worth_asking([again, ROOT, data]) == [data, ROOT]


def test_a_containers_root_is_reported_though_it_is_no_disk() -> None:
    root = Mount("overlay", "/", "overlay")
    bound = Mount("/dev/vda1", "/etc/hosts", "ext4")

    assert root in worth_asking([root, bound])


def test_of_mounts_over_each_other_the_upper_one_counts() -> None:
    upper = Mount("server:/", "/", "nfs4")

    assert worth_asking([ROOT, upper]) == []


def test_a_process_may_have_any_name() -> None:
    name = b"a) S 1 (\xff) b"
    stat = b"4321 (" + name + b") S 1 4321 4321 0 -1 4194560 100 0 0 0 250 50 7 7 20 0 1 0 98765 1048576 12 18446744"

    assert parse_stat(stat, 0.01, 4096) == Process(4321, 98765, "a) S 1 (\udcff) b", 3.0, 12 * 4096, 1048576, 1, 1)


def process(pid: int, cpu_s: float, memory_bytes: int = 0, started: int = 1) -> Process:
    return Process(pid, started, "it", cpu_s, memory_bytes)


def look(*processes: Process, now_s: float = 0.0) -> Look:
    return Look(now_s, list(processes), {(each.pid, each.started): each.cpu_s for each in processes})


def test_the_busiest_is_who_used_the_most_since_the_last_look() -> None:
    before = look(process(1, 100.0), process(2, 5.0))

    assert busiest(before, look(process(1, 100.1), process(2, 5.5)), 1) == [(process(2, 5.5), 0.5)]


def test_a_number_that_is_used_again_is_another_process() -> None:
    again = process(1, 0.25, started=2)

    assert busiest(look(process(1, 100.0)), look(again), 9) == [(again, 0.25)]


def test_of_equally_busy_ones_the_larger_comes_first() -> None:
    small, large = process(1, 0.0, 10), process(2, 0.0, 20)

    assert [each for each, _ in busiest(look(), look(small, large), 9)] == [large, small]


def test_all_who_ask_at_one_moment_share_a_look() -> None:
    scanner = Scanner(lambda: [process(1, 1.0)], clock=lambda: 0.0)

    assert scanner.look(1.0) is scanner.look(1.0)
    assert scanner.look(2.0) is not scanner.look(1.0)


def test_looks_that_take_longer_are_taken_less_often() -> None:
    cpu_s = itertools.count(0.0, 0.01)  # each look takes 10 ms, so one in 5 s is 0.2 %
    scanner = Scanner(lambda: [process(1, 1.0)], clock=lambda: next(cpu_s))

    taken = [now_s for now_s in range(20) if scanner.look(float(now_s))]

    assert taken == [0, 1, 6, 11, 16]


@pytest.mark.parametrize("interval_s", [0.1, 1.0, 7.3, 60.0])
def test_measurements_keep_to_the_clock_without_drift(interval_s: float) -> None:
    chance = random.Random(1)
    now_s = 1_700_000_000.123
    first_s = now_s + until_next_s(now_s, interval_s, 0.5)
    now_s = first_s
    for count in range(1, 1000):
        now_s += chance.uniform(0, 0.4) * interval_s  # what measuring takes
        now_s += until_next_s(now_s, interval_s, 0.5)
        now_s += chance.uniform(-0.001, 0.001) * interval_s  # woken a little early or late

        assert now_s == pytest.approx(first_s + count * interval_s, abs=0.01 * interval_s)


@pytest.mark.parametrize("away_s", [5.0, 3600.0, -3600.0])
def test_after_a_suspend_or_a_set_clock_nothing_is_made_up_for(away_s: float) -> None:
    now_s = 1_700_000_000.5
    waits = []
    now_s += away_s
    for _ in range(3):
        waits.append(until_next_s(now_s, 1.0, 0.5))
        now_s += waits[-1]

    assert min(waits) >= 0.5
    assert max(waits) <= 1.5
