"""Linux's control groups, v1 and v2: where this process's own are, what limits hold there, what is used of them.

The kernel's documents are "Control Group v2" and those under "cgroup-v1"; cgroups(7) has the files in ``/proc``. All is
read below a root, so that another tree can be put in the place of the system's.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

__all__ = [
    "Cpu",
    "Group",
    "Memory",
    "container_id",
    "find_groups",
    "mount_points",
    "parse_counts",
    "read_cpu",
    "read_memory",
]

# Version 1 has no word for "no limit", but a number: the largest one, rounded down to a page.
_V1_NO_LIMIT = 2**62
# What Docker, Podman, containerd and CRI-O name a container by: in its cgroup's name, or where its files are kept.
_ID_OF_GROUP = re.compile(r"(?<![0-9a-f])([0-9a-f]{64})(?![0-9a-f])")
_ID_OF_FILES = re.compile(r"containers/([0-9a-f]{64})/\S* /etc/hostname ")


@dataclass(frozen=True, slots=True)
class Group:
    """A controller's view of the cgroup that this process is in."""

    version: int
    levels: tuple[Path, ...]
    """Its folder, and those above it as far as they can be seen. Limits hold on all of them."""
    contained: bool
    """Whether there are more above which cannot be seen: the top is a container's, not the host's."""


@dataclass(frozen=True, slots=True)
class Cpu:
    """CPU time at the level with the smallest limit. None is what cannot be told there."""

    limit: float | None
    """Cores."""
    used_s: float | None = None
    periods: int | None = None
    throttled_periods: int | None = None
    throttled_s: float | None = None
    """Summed over cores."""


@dataclass(frozen=True, slots=True)
class Memory:
    """Memory at the level with the smallest limit, in bytes. None is what cannot be told there."""

    limit: int | None
    high: int | None
    """Beyond this programs are slowed down and their memory is reclaimed; v2 only."""
    usage: int | None = None
    working_set: int | None = None
    """Without the caches of files that are given up first."""
    anonymous: int | None = None
    reclaims: int | None = None
    """How often the limit was reached."""
    oom_kills: int | None = None


def find_groups(root: Path) -> dict[str, Group]:
    """Return the cgroup of this process for each of the controllers ``cpu``, ``cpuacct`` and ``memory``.

    Raises:
        OSError: the system has no cgroups.
    """
    paths = dict(_paths((root / "proc/self/cgroup").read_text("utf-8", "surrogateescape")))
    mounts = list(_mounts((root / "proc/self/mountinfo").read_text("utf-8", "surrogateescape")))
    found = {}
    for controller in ("cpu", "cpuacct", "memory"):
        # Where both versions are mounted, a controller is in one of them.
        for kind in (controller, ""):
            mount = next((each for each in mounts if kind in each.controllers), None)
            if kind in paths and mount:
                found[controller] = _group(root, 1 if kind else 2, paths[kind], mount)
                break
    return found


def mount_points(root: Path, controller: str) -> list[Path]:
    """Return where the hierarchy of a controller is mounted; of version 2 the name is empty.

    Raises:
        OSError: the system has no cgroups.
    """
    mounts = _mounts((root / "proc/self/mountinfo").read_text("utf-8", "surrogateescape"))
    return [root / mount.point.lstrip("/") for mount in mounts if controller in mount.controllers]


def container_id(root: Path) -> str | None:
    """Return the identifier of the container, if its runtime left it where it can be seen from inside.

    Raises:
        OSError: the system has no cgroups.
    """
    for name, pattern in (("cgroup", _ID_OF_GROUP), ("mountinfo", _ID_OF_FILES)):
        if found := pattern.search((root / "proc/self" / name).read_text("utf-8", "surrogateescape")):
            return found[1]
    return None


def read_cpu(group: Group, accounts: Group | None) -> Cpu | None:
    """Read the limit and the use of CPU time; None if there is no limit, and no container to tell the use of.

    Args:
        group: of the controller ``cpu``.
        accounts: of ``cpuacct``, which version 1 may have elsewhere.
    """
    limits = [(limit, level) for level in group.levels if (limit := _cores(group.version, level)) is not None]
    limit, level = min(limits, key=lambda pair: pair[0], default=(None, group.levels[-1]))
    if limit is None and not group.contained:
        return None
    stat = parse_counts(_text(level / "cpu.stat"))
    if group.version == 2:
        used, throttled, unit = stat.get("usage_usec"), stat.get("throttled_usec"), 1e-6
    else:
        used, throttled, unit = _usage_ns(group, level, accounts), stat.get("throttled_time"), 1e-9
    return Cpu(
        limit=limit,
        used_s=None if used is None else used * unit,
        periods=stat.get("nr_periods"),
        throttled_periods=stat.get("nr_throttled"),
        throttled_s=None if throttled is None else throttled * unit,
    )


def read_memory(group: Group) -> Memory | None:
    """Read the limits and the use of memory; None if there is no limit, and no container to tell the use of."""
    v2 = group.version == 2
    limits = {level: _bytes(level / ("memory.max" if v2 else "memory.limit_in_bytes")) for level in group.levels}
    highs = {level: _bytes(level / "memory.high") if v2 else None for level in group.levels}
    limit, level = _smallest(limits) or _smallest(highs) or (None, group.levels[-1])
    if limit is None and not group.contained:
        return None
    high = _smallest(highs)
    usage = _bytes(level / ("memory.current" if v2 else "memory.usage_in_bytes"))
    stat = parse_counts(_text(level / "memory.stat"))
    # Version 1 tells of the level alone, and with `total_` of all that is below it too.
    inactive = stat.get("inactive_file" if v2 else "total_inactive_file")
    events = parse_counts(_text(level / ("memory.events" if v2 else "memory.oom_control")))
    return Memory(
        limit=limits[level],
        high=high[0] if high else None,
        usage=usage,
        working_set=None if usage is None or inactive is None else max(usage - inactive, 0),
        anonymous=stat.get("anon" if v2 else "total_rss"),
        reclaims=events.get("max") if v2 else _bytes(level / "memory.failcnt"),
        oom_kills=events.get("oom_kill"),
    )


def parse_counts(text: str) -> dict[str, int]:
    """Return the numbers of a flat keyed file: lines of a name and a number. What is none is left out."""
    pairs = (line.split() for line in text.splitlines())
    return {pair[0]: int(pair[1]) for pair in pairs if len(pair) == 2 and pair[1].isdecimal()}


@dataclass(frozen=True, slots=True)
class _Mount:
    controllers: frozenset[str]
    """Version 2 has the empty name, as in ``/proc/self/cgroup``."""
    root: str
    """Which cgroup is seen at `point`."""
    point: str


def _paths(text: str) -> Iterator[tuple[str, str]]:
    for line in text.splitlines():
        _, controllers, path = line.split(":", 2)
        for controller in controllers.split(","):
            yield controller, path


def _mounts(text: str) -> Iterator[_Mount]:
    for line in text.splitlines():
        # How many optional fields come before the dash differs (proc_pid_mountinfo(5)).
        head, _, tail = line.partition(" - ")
        fields, (kind, _, options) = head.split(" "), tail.split(" ", 2)
        if kind in ("cgroup", "cgroup2"):
            controllers = frozenset(options.split(",") if kind == "cgroup" else [""])
            yield _Mount(controllers, _unescaped(fields[3]), _unescaped(fields[4]))


def _unescaped(path: str) -> str:
    return re.sub(r"\\([0-7]{3})", lambda octal: chr(int(octal[1], 8)), path)


def _group(root: Path, version: int, path: str, mount: _Mount) -> Group:
    top = root / mount.point.lstrip("/")
    above = mount.root.rstrip("/")
    # The path may be outside of what is mounted, as another namespace's; then the top is the nearest that can be seen.
    inside = path == above or (path.startswith(f"{above}/") and ".." not in path.split("/"))
    own = top / path[len(above) :].lstrip("/") if inside else top
    while own != top and not own.is_dir():
        own = own.parent
    levels = [own, *own.parents]
    levels = levels[: levels.index(top) + 1]
    # Of version 2, the file is in all cgroups but the root of the hierarchy.
    above_is_hidden = bool(above) and not above.startswith("/..")
    contained = above_is_hidden or (version == 2 and (top / "cgroup.type").exists())
    return Group(version, tuple(levels), contained)


def _text(path: Path) -> str:
    try:
        return path.read_text("ascii", "replace")
    except OSError:  # the controller is not enabled there, or this kernel is older than the file
        return ""


def _bytes(path: Path) -> int | None:
    """Return the number in a file; None if there is no such file, or if it says that there is no limit."""
    text = _text(path).strip()
    return int(text) if text.isdecimal() and int(text) < _V1_NO_LIMIT else None


def _cores(version: int, level: Path) -> float | None:
    if version == 2:
        quota, _, period = _text(level / "cpu.max").strip().partition(" ")
    else:
        quota, period = (_text(level / f"cpu.cfs_{name}_us").strip() for name in ("quota", "period"))
    # No limit is `max`, or -1 in version 1.
    return int(quota) / int(period) if quota.isdecimal() and period.isdecimal() and int(period) else None


def _usage_ns(group: Group, level: Path, accounts: Group | None) -> int | None:
    """Return what the controller ``cpuacct`` counted at the same level, if that is of the same cgroup."""
    if accounts is None or level.relative_to(group.levels[-1]) not in {
        each.relative_to(accounts.levels[-1]) for each in accounts.levels
    }:
        return None
    return _bytes(accounts.levels[-1] / level.relative_to(group.levels[-1]) / "cpuacct.usage")


def _smallest(limits: Mapping[Path, int | None]) -> tuple[int, Path] | None:
    known = [(limit, level) for level, limit in limits.items() if limit is not None]
    return min(known, key=lambda pair: pair[0], default=None)
