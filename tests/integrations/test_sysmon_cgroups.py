"""Limits of containers, as trees of control groups tell them."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from eventstorm_integrations.sysmon.cgroups import container_id, find_groups, parse_counts, read_cpu, read_memory
from eventstorm_integrations.sysmon.containers import ContainerCollector
from integrations.cgroup_trees import (
    CPU_V1,
    CPU_V2,
    ID,
    MEMORY_V1,
    MEMORY_V2,
    MIB,
    NO_LIMIT_4K,
    NO_LIMIT_64K,
    V2,
    docker_v1,
    docker_v2,
    document,
    host,
    kubernetes,
    mount_v2,
    tree,
)


def test_a_container_of_version_2(tmp_path: Path) -> None:
    assert document(docker_v2(tmp_path)) == {
        "id": ID,
        "cpu": {"limit": 1.5},
        "memory": {
            "limit": 512 * MIB,
            "usage": 300 * MIB,
            "working_set": 240 * MIB,
            "rss": 100 * MIB,
            "available": 272 * MIB,
            "utilization": 0.4688,
        },
    }


def test_a_container_of_version_1(tmp_path: Path) -> None:
    assert document(docker_v1(tmp_path)) == {
        "id": ID,
        "cpu": {"limit": 0.5},
        "memory": {
            "limit": 256 * MIB,
            "usage": 200 * MIB,
            "working_set": 150 * MIB,
            "rss": 90 * MIB,
            "available": 106 * MIB,
            "utilization": 0.5859,
        },
    }


def test_what_is_used_and_held_back_is_told_of_the_time_between(tmp_path: Path) -> None:
    collector = ContainerCollector(docker_v2(tmp_path))
    collector.sample(10.0)
    (tmp_path / V2 / "cpu.stat").write_text(
        "usage_usec 7400000\nnr_periods 60\nnr_throttled 19\nthrottled_usec 1300000\n"
    )
    (tmp_path / V2 / "memory.events").write_text("low 0\nhigh 0\nmax 9\noom 2\noom_kill 2\n")
    (event,) = collector.sample(12.0)

    assert event["container"]["cpu"] == {
        "limit": 1.5,
        "usage": 1.2,
        "utilization": 0.8,
        "throttled": {"periods": 0.75, "time": 0.5},
    }
    assert event["container"]["memory"]["reclaims"] == 2
    assert event["container"]["memory"]["oom_kills"] == 1


def test_version_1_counts_in_other_units_and_files(tmp_path: Path) -> None:
    collector = ContainerCollector(docker_v1(tmp_path))
    collector.sample(0.0)
    folder = tmp_path / "sys/fs/cgroup/cpu,cpuacct"
    (folder / "cpuacct.usage").write_text("7400000000\n")
    (folder / "cpu.stat").write_text("nr_periods 20\nnr_throttled 10\nthrottled_time 3000000000\n")
    (tmp_path / "sys/fs/cgroup/memory/memory.failcnt").write_text("5\n")
    (event,) = collector.sample(1.0)

    assert event["container"]["cpu"] == {
        "limit": 0.5,
        "usage": 0.4,
        "utilization": 0.8,
        "throttled": {"periods": 0.5, "time": 0.5},
    }
    assert event["container"]["memory"]["reclaims"] == 2
    assert event["container"]["memory"]["oom_kills"] == 0


def test_a_counter_that_went_back_is_left_out_once(tmp_path: Path) -> None:
    collector = ContainerCollector(docker_v2(tmp_path))
    collector.sample(0.0)
    (tmp_path / V2 / "cpu.stat").write_text("usage_usec 1\nnr_periods 0\nnr_throttled 0\nthrottled_usec 0\n")
    (event,) = collector.sample(1.0)
    assert event["container"]["cpu"] == {"limit": 1.5}

    (event,) = collector.sample(2.0)
    assert event["container"]["cpu"]["throttled"] == {"periods": 0.0, "time": 0.0}


def test_the_smallest_limit_on_the_way_up_counts_with_what_is_used_of_it(tmp_path: Path) -> None:
    found = document(kubernetes(tmp_path))

    assert found["id"] == ID
    assert found["cpu"]["limit"] == 1.5
    assert found["memory"]["limit"] == 512 * MIB
    assert found["memory"]["high"] == 400 * MIB
    assert found["memory"]["usage"] == 300 * MIB, "of the pod, whose limit it is"


def test_a_limit_that_only_slows_down_is_one_too(tmp_path: Path) -> None:
    root = docker_v2(tmp_path, memory__max="max\n", memory__high=f"{400 * MIB}\n", cpu__max="max 100000\n")
    found = document(root)

    assert found["memory"]["high"] == 400 * MIB
    assert "limit" not in found["memory"]
    assert "utilization" not in found["memory"]


def test_a_container_without_limits_tells_what_it_uses(tmp_path: Path) -> None:
    collector = ContainerCollector(docker_v2(tmp_path, memory__max="max\n", cpu__max="max 100000\n"))
    collector.sample(0.0)
    (event,) = collector.sample(1.0)

    assert event["container"]["cpu"] == {"usage": 0.0}
    assert event["container"]["memory"]["usage"] == 300 * MIB
    assert "limit" not in event["container"]["memory"]


def test_a_host_without_limits_has_no_event_which_is_noted_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    collector = ContainerCollector(host(tmp_path))
    with caplog.at_level(logging.INFO):
        assert [collector.sample(float(now_s)) for now_s in range(30)] == [[]] * 30

    assert len(caplog.records) == 1


def test_limits_that_come_later_are_found(tmp_path: Path) -> None:
    collector = ContainerCollector(host(tmp_path))
    collector.sample(0.0)
    (tmp_path / V2 / "system.slice/cpu.max").write_text("20000 100000\n")

    assert collector.sample(1.0) == []
    (event,) = collector.sample(11.0)
    assert event["container"]["cpu"] == {"limit": 0.2}


def test_what_has_no_cgroups_at_all_has_no_event(tmp_path: Path) -> None:
    assert ContainerCollector(tmp_path).sample(0.0) == []


def test_with_both_versions_a_controller_is_where_it_is_listed(tmp_path: Path) -> None:
    root = tree(
        tmp_path,
        "4:memory:/user\n2:cpuacct:/\n1:cpu:/user/me\n0::/user\n",
        "32 31 0:29 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu\n"
        "33 31 0:30 / /sys/fs/cgroup/cpuacct rw - cgroup cgroup rw,cpuacct\n"
        "35 31 0:32 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n"
        "41 31 0:38 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n",
        **{
            "sys/fs/cgroup/cpu": {"cpu.cfs_quota_us": "-1\n", "cpu.cfs_period_us": "100000\n"},
            "sys/fs/cgroup/cpu/user/me": CPU_V1,
            "sys/fs/cgroup/cpuacct": {"cpuacct.usage": "123\n"},
            "sys/fs/cgroup/memory": {"memory.limit_in_bytes": f"{NO_LIMIT_4K}\n"},
            "sys/fs/cgroup/memory/user": {**MEMORY_V1, "memory.limit_in_bytes": f"{NO_LIMIT_4K}\n"},
            "sys/fs/cgroup/unified/user": {"cgroup.type": "domain\n"},
        },
    )
    groups = find_groups(root)
    cpu = read_cpu(groups["cpu"], groups["cpuacct"])

    assert {name: group.version for name, group in groups.items()} == {"cpu": 1, "cpuacct": 1, "memory": 1}
    assert cpu
    assert cpu.limit == 0.5
    assert cpu.used_s is None, "what is counted there is another cgroup's"
    assert read_memory(groups["memory"]) is None


@pytest.mark.parametrize("number", [NO_LIMIT_4K, NO_LIMIT_64K])
def test_version_1_says_no_limit_by_a_number(number: str, tmp_path: Path) -> None:
    root = docker_v1(tmp_path)
    (root / "sys/fs/cgroup/memory/memory.limit_in_bytes").write_text(f"{number}\n")

    assert "limit" not in document(root)["memory"]
    assert document(root)["memory"]["usage"] == 200 * MIB


@pytest.mark.parametrize(
    ("cgroup", "root"), [("/../../elsewhere", "/"), ("/docker/abcdef", "/docker/abc"), ("/a", "/../..")]
)
def test_of_a_path_that_cannot_be_seen_the_top_counts(cgroup: str, root: str, tmp_path: Path) -> None:
    tree(tmp_path, f"0::{cgroup}\n", mount_v2(root), **{V2: CPU_V2})

    assert document(tmp_path)["cpu"] == {"limit": 1.5}


def test_a_folder_that_is_not_there_is_read_from_above(tmp_path: Path) -> None:
    tree(tmp_path, "0::/a/b/c\n", mount_v2(), **{f"{V2}/a": CPU_V2})

    assert document(tmp_path)["cpu"] == {"limit": 1.5}


def test_a_mount_point_may_have_any_name(tmp_path: Path) -> None:
    tree(tmp_path, "0::/\n", mount_v2(point=r"/odd\040place"), **{"odd place": CPU_V2})

    assert document(tmp_path)["cpu"] == {"limit": 1.5}


@pytest.mark.parametrize("garbage", ["", "\n", "maximum\n", "-5 100000\n", "100000 0\n", "1e5 100000\n", "\xff\x00"])
def test_files_that_hold_something_else_tell_nothing(garbage: str, tmp_path: Path) -> None:
    files = dict.fromkeys((*CPU_V2, *MEMORY_V2), garbage)
    tree(tmp_path, "0::/\n", mount_v2(), **{V2: {"cgroup.type": "domain\n", **files}})

    assert ContainerCollector(tmp_path).sample(0.0) == []


def test_numbers_are_read_by_their_names() -> None:
    assert parse_counts("a 1\nb -2\nc x\nd\ne 5 6\n\nf 7") == {"a": 1, "f": 7}


def test_other_containers_on_a_host_are_not_taken_for_its_own(tmp_path: Path) -> None:
    root = host(tmp_path)
    with (root / "proc/self/mountinfo").open("a") as mounts:
        mounts.write(f"99 31 0:50 / /var/lib/docker/overlay2/{ID}/merged rw - overlay overlay rw\n")
        mounts.write(f"98 31 0:51 / /var/lib/docker/containers/{ID}/mounts/shm rw - tmpfs shm rw\n")

    assert container_id(root) is None
