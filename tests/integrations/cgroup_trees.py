"""Trees of control groups as container runtimes and systemd make them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from eventstorm_integrations.sysmon.containers import ContainerCollector

MIB = 2**20
ID = "3f7a" * 16
NO_LIMIT_4K, NO_LIMIT_64K = "9223372036854771712", "9223372036854710272"
V2 = "sys/fs/cgroup"

CPU_V2 = {
    "cpu.max": "150000 100000\n",
    "cpu.stat": "usage_usec 5000000\nuser_usec 4000000\nsystem_usec 1000000\n"
    "nr_periods 40\nnr_throttled 4\nthrottled_usec 300000\nnr_bursts 0\nburst_usec 0\n",
}
MEMORY_V2 = {
    "memory.max": f"{512 * MIB}\n",
    "memory.high": "max\n",
    "memory.current": f"{300 * MIB}\n",
    "memory.stat": f"anon {100 * MIB}\nfile {180 * MIB}\nkernel {20 * MIB}\ninactive_file {60 * MIB}\n",
    "memory.events": "low 0\nhigh 0\nmax 7\noom 1\noom_kill 1\noom_group_kill 0\n",
}
MEMORY_V1 = {
    "memory.limit_in_bytes": f"{256 * MIB}\n",
    "memory.usage_in_bytes": f"{200 * MIB}\n",
    "memory.failcnt": "3\n",
    "memory.oom_control": "oom_kill_disable 0\nunder_oom 0\noom_kill 2\n",
    "memory.stat": f"cache {MIB}\nrss 4096\ninactive_file 0\n"
    f"hierarchical_memory_limit {256 * MIB}\ntotal_rss {90 * MIB}\ntotal_inactive_file {50 * MIB}\n",
}
CPU_V1 = {
    "cpu.cfs_quota_us": "50000\n",
    "cpu.cfs_period_us": "100000\n",
    "cpu.stat": "nr_periods 10\nnr_throttled 5\nthrottled_time 2500000000\n",
}


def tree(root: Path, cgroup: str, mountinfo: str, **groups: Mapping[str, str]) -> Path:
    """Write files as a kernel shows them."""
    files = {"proc/self/cgroup": cgroup, "proc/self/mountinfo": mountinfo}
    for folder, contents in groups.items():
        files |= {f"{folder}/{name}": content for name, content in contents.items()}
    for name, content in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(content)
    return root


def mount_v2(root: str = "/", point: str = f"/{V2}") -> str:
    return (
        "24 29 0:22 / /proc rw,nosuid,nodev,noexec,relatime shared:12 - proc proc rw\n"
        f"31 23 0:27 {root} {point} rw,nosuid,nodev,noexec,relatime shared:9 - cgroup2 cgroup2 rw,nsdelegate\n"
    )


def docker_v2(root: Path, **changed: str) -> Path:
    """A container with a namespace of its own, as Docker makes it on cgroup v2: its own cgroup looks like the top."""
    files = {"cgroup.type": "domain\n", **CPU_V2, **MEMORY_V2}
    hostname = f"812 790 254:1 /var/lib/docker/containers/{ID}/hostname /etc/hostname rw - ext4 /dev/vda1 rw\n"
    return tree(
        root, "0::/\n", mount_v2() + hostname, **{V2: files | {k.replace("__", "."): v for k, v in changed.items()}}
    )


def docker_v1(root: Path) -> Path:
    """A container on cgroup v1: the host's paths, mounted from the container's cgroup."""
    lines = [
        f"{number}:{name}:/docker/{ID}\n" for number, name in ((9, "memory"), (4, "cpu,cpuacct"), (1, "name=systemd"))
    ]
    mounts = [
        f"{number} 40 0:{number} /docker/{ID} /sys/fs/cgroup/{name} ro master:{number} - cgroup cgroup rw,{name}\n"
        for number, name in ((60, "memory"), (61, "cpu,cpuacct"))
    ]
    groups = {
        "sys/fs/cgroup/memory": MEMORY_V1,
        "sys/fs/cgroup/cpu,cpuacct": {**CPU_V1, "cpuacct.usage": "7000000000\n"},
    }
    return tree(root, "".join(lines), "".join(mounts), **groups)


def document(root: Path) -> dict[str, Any]:
    (event,) = ContainerCollector(root).sample(0.0)
    return event["container"]  # type: ignore[no-any-return]


POD = "kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod1.slice"


def kubernetes(root: Path) -> Path:
    """A container among others of a pod, whose own limits are wider than the pod's, seen with the host's namespace."""
    return tree(
        root,
        f"0::/{POD}/cri-containerd-{ID}.scope\n",
        mount_v2(),
        **{
            V2: {"cpu.stat": "usage_usec 99\n"},  # the root has no limits
            f"{V2}/{POD}": {**CPU_V2, **MEMORY_V2, "cpu.max": "max 100000\n", "memory.high": f"{400 * MIB}\n"},
            f"{V2}/{POD}/cri-containerd-{ID}.scope": {
                **CPU_V2,
                **MEMORY_V2,
                "memory.max": f"{1024 * MIB}\n",
                "memory.current": f"{10 * MIB}\n",
            },
        },
    )


def host(root: Path) -> Path:
    """A service of a host without any limit."""
    return tree(
        root,
        "0::/system.slice/eventstorm.service\n",
        mount_v2(),
        **{
            V2: {"cpu.stat": "usage_usec 99\n"},
            f"{V2}/system.slice": {"cgroup.type": "domain\n", "cpu.max": "max 100000\n", "memory.max": "max\n"},
            f"{V2}/system.slice/eventstorm.service": {
                **MEMORY_V2,
                "cgroup.type": "domain\n",
                "cpu.max": "max 100000\n",
                "memory.max": "max\n",
            },
        },
    )
