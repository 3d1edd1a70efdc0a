"""``process.usage``: the processes that use the most CPU."""

from __future__ import annotations

import heapq
from typing import Any

import psutil

from eventstorm_integrations.sysmon.scan import Look, Process, Scanner
from eventstorm_integrations.sysmon.text import printable

__all__ = ["ProcessCollector", "busiest"]


class ProcessCollector:
    """Compares all processes with what they were the last time. Its first sample is empty."""

    def __init__(self, scanner: Scanner, most: int) -> None:
        self._scanner = scanner
        self._most = most
        self._memory_limit = psutil.virtual_memory().total
        self._before: Look | None = None
        self._described: dict[tuple[int, float, str], dict[str, Any]] = {}

    def sample(self, now_s: float) -> list[dict[str, Any]]:
        """Return one event for each of the busiest processes; none if a look at them is not due yet."""
        look = self._scanner.look(now_s)
        if look is None:
            return []
        before, self._before = self._before, look
        if before is None or before.now_s >= now_s:
            return []
        chosen = busiest(before, look, self._most)
        described = {each[:3]: self._described.get(each[:3]) or _describe(each) for each, _ in chosen}
        self._described = described
        return [
            {
                "process": {
                    "pid": each.pid,
                    **described[each[:3]],
                    "cpu": {"utilization": round(used_s / (now_s - before.now_s), 4)},
                    "memory": {
                        "usage": each.memory_bytes,
                        "utilization": round(each.memory_bytes / self._memory_limit, 4),
                    },
                    "rank": rank,
                }
            }
            for rank, (each, used_s) in enumerate(chosen, 1)
        ]


def busiest(before: Look, look: Look, most: int) -> list[tuple[Process, float]]:
    """Return the processes that used the most CPU time since `before`, the busiest first, with the seconds.

    One that was not there before began since, so all that it used counts. Of equally busy ones those with more memory
    come first.
    """
    used = [(each, look.used_s(each, before)) for each in look.processes]
    return heapq.nlargest(most, used, key=lambda pair: (pair[1], pair[0].memory_bytes))


def _describe(process: Process) -> dict[str, Any]:
    """Return what takes longer to find out, and does not change while a process runs the same program."""
    name, owner = process.name, None
    try:
        known = psutil.Process(process.pid)
        name, owner = known.name(), known.username()
    except (psutil.Error, OSError):  # it ended just now, or this user may not look
        pass
    described: dict[str, Any] = {"executable": {"name": printable(name)}}
    if owner is not None:
        described["owner"] = owner
    return described
