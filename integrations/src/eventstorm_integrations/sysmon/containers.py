"""``container.usage``: what of its CPU and memory limits the container uses that this process is in."""

from __future__ import annotations

import logging
from math import inf
from pathlib import Path
from typing import Any

from eventstorm_integrations.sysmon.cgroups import (
    Cpu,
    Group,
    Memory,
    container_id,
    find_groups,
    read_cpu,
    read_memory,
)

__all__ = ["ContainerCollector", "container_document"]

log = logging.getLogger(__name__)

# How often to look for the cgroups anew: a process can be moved, and one without limits be given some.
_LOOK_S = 10.0


class ContainerCollector:
    """Reads the cgroup. Its first sample lacks what is a difference; outside of containers and limits there is none."""

    def __init__(self, root: Path = Path("/")) -> None:
        """Read below another root than the system's, for tests."""
        self._root = root
        self._groups: dict[str, Group] = {}
        self._id: str | None = None
        self._due_s = -inf
        self._before: tuple[float, Cpu | None, Memory | None] = (0.0, None, None)
        self._noted = False

    def sample(self, now_s: float) -> list[dict[str, Any]]:
        """Return the event, if there is one."""
        if now_s >= self._due_s:
            self._look()
            self._due_s = now_s + _LOOK_S
        groups = self._groups
        cpu = read_cpu(groups["cpu"], groups.get("cpuacct")) if "cpu" in groups else None
        memory = read_memory(groups["memory"]) if "memory" in groups else None
        if cpu is None and memory is None:
            self._groups = {}  # until the next look
            if not self._noted:
                self._noted = True
                log.info("no CPU or memory limits of a container here: container.usage is left out")
            return []
        before, self._before = self._before, (now_s, cpu, memory)
        told = container_document(before, self._before)
        if not told:
            return []
        return [{"container": told if self._id is None else {"id": self._id, **told}}]

    def _look(self) -> None:
        try:
            self._groups, self._id = find_groups(self._root), container_id(self._root)
        except OSError:  # not Linux
            self._groups = {}


def container_document(
    before: tuple[float, Cpu | None, Memory | None], after: tuple[float, Cpu | None, Memory | None]
) -> dict[str, Any]:
    """Return what can be told of a moment, its CPU and its memory, compared with an earlier one."""
    document: dict[str, Any] = {}
    elapsed_s = after[0] - before[0]
    if after[1]:
        document["cpu"] = _cpu(before[1], after[1], elapsed_s)
    if after[2]:
        document["memory"] = _memory(before[2], after[2])
    return {name: fields for name, fields in document.items() if fields}


def _cpu(before: Cpu | None, after: Cpu, elapsed_s: float) -> dict[str, Any]:
    fields: dict[str, Any] = {} if after.limit is None else {"limit": round(after.limit, 4)}
    if before is None or elapsed_s <= 0:
        return fields
    used_s = _growth(before.used_s, after.used_s)
    if used_s is not None:
        usage = used_s / elapsed_s
        fields["usage"] = round(usage, 4)
        if after.limit:
            fields["utilization"] = round(usage / after.limit, 4)
    periods = _growth(before.periods, after.periods)
    throttled = _growth(before.throttled_periods, after.throttled_periods)
    waited_s = _growth(before.throttled_s, after.throttled_s)
    if after.limit and periods is not None and throttled is not None and waited_s is not None:
        # Where nothing ran there was no period, and nothing was held back.
        fields["throttled"] = {
            "periods": round(min(throttled / periods, 1.0), 4) if periods else 0.0,
            "time": round(waited_s / elapsed_s, 4),
        }
    return fields


def _memory(before: Memory | None, after: Memory) -> dict[str, Any]:
    told = {
        "limit": after.limit,
        "high": after.high,
        "usage": after.usage,
        "working_set": after.working_set,
        "rss": after.anonymous,
    }
    fields: dict[str, Any] = {name: value for name, value in told.items() if value is not None}
    if after.limit is not None and after.working_set is not None:
        fields["available"] = max(after.limit - after.working_set, 0)
        # A limit of nothing is full.
        fields["utilization"] = round(after.working_set / after.limit, 4) if after.limit else 1.0
    if before is not None:
        for name, growth in (
            ("reclaims", _growth(before.reclaims, after.reclaims)),
            ("oom_kills", _growth(before.oom_kills, after.oom_kills)),
        ):
            if growth is not None:
                fields[name] = growth
    return fields


def _growth(before: float | None, after: float | None) -> float | None:
    """Return how much a counter grew; None if it cannot be told, or went back since it is another cgroup's."""
    return after - before if before is not None and after is not None and after >= before else None
