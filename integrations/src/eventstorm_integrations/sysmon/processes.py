"""``process.usage``: the processes that use the most CPU."""

from __future__ import annotations

import heapq
import os
import sys
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import psutil

__all__ = ["Process", "ProcessCollector", "busiest", "parse_stat"]


class Process(NamedTuple):
    """What a scan reads of each process."""

    pid: int
    started: float
    """With `pid` its identity, since numbers are used again; in units of the platform."""
    name: str
    """Changes when it runs another program."""
    cpu_s: float
    """CPU time that it has used, in all its threads."""
    memory_bytes: int
    """Resident."""


class ProcessCollector:
    """Compares all processes with what they were the last time. Its first sample is empty."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._memory_limit = psutil.virtual_memory().total
        self._before: dict[tuple[int, float], float] | None = None
        self._before_s = 0.0
        self._described: dict[tuple[int, float, str], dict[str, Any]] = {}

    def sample(self, now_s: float) -> list[dict[str, Any]]:
        """Return one event for each of the busiest processes."""
        processes = list(_scan())
        before, self._before = self._before, {(each.pid, each.started): each.cpu_s for each in processes}
        elapsed_s, self._before_s = now_s - self._before_s, now_s
        if before is None or elapsed_s <= 0:
            return []
        chosen = busiest(before, processes, self._most)
        described = {each[:3]: self._described.get(each[:3]) or _describe(each) for each, _ in chosen}
        self._described = described
        return [
            {
                "process": {
                    "pid": each.pid,
                    **described[each[:3]],
                    "cpu": {"utilization": round(used_s / elapsed_s, 4)},
                    "memory": {
                        "usage": each.memory_bytes,
                        "utilization": round(each.memory_bytes / self._memory_limit, 4),
                    },
                    "rank": rank,
                }
            }
            for rank, (each, used_s) in enumerate(chosen, 1)
        ]


def busiest(before: dict[tuple[int, float], float], processes: list[Process], most: int) -> list[tuple[Process, float]]:
    """Return the processes that used the most CPU time since `before`, the busiest first, with the seconds.

    One that was not there before began since, so all that it used counts. Of equally busy ones those with more memory
    come first.
    """
    used = [(each, max(each.cpu_s - before.get((each.pid, each.started), 0.0), 0.0)) for each in processes]
    return heapq.nlargest(most, used, key=lambda pair: (pair[1], pair[0].memory_bytes))


def _describe(process: Process) -> dict[str, Any]:
    """Return what takes longer to find out, and does not change while a process runs the same program."""
    name, owner = process.name, None
    try:
        known = psutil.Process(process.pid)
        name, owner = known.name(), known.username()
    except (psutil.Error, OSError):  # it ended just now, or this user may not look
        pass
    described: dict[str, Any] = {"executable": {"name": _text(name)}}
    if owner is not None:
        described["owner"] = owner
    return described


def _text(name: str) -> str:
    return os.fsencode(name).decode("utf-8", "replace")


def parse_stat(stat: bytes, tick_s: float, page_bytes: int) -> Process:
    """Read a line of Linux's ``/proc/PID/stat`` (proc_pid_stat(5)).

    Raises:
        ValueError: it is none.
        IndexError: it is cut off.
    """
    # The name may contain anything, parentheses and blanks too, so it ends at the last one.
    head, _, tail = stat.rpartition(b")")
    pid, _, name = head.partition(b" (")
    fields = tail.split(maxsplit=22)  # from the third of the manual page on
    return Process(
        pid=int(pid),
        started=int(fields[19]),
        name=os.fsdecode(name),
        cpu_s=(int(fields[11]) + int(fields[12])) * tick_s,
        memory_bytes=int(fields[21]) * page_bytes,
    )


def _scan_linux() -> Iterator[Process]:
    """Read one small file a process, which takes a quarter of the time that psutil's objects need."""
    tick_s, page_bytes = 1 / os.sysconf("SC_CLK_TCK"), os.sysconf("SC_PAGE_SIZE")
    for name in os.listdir("/proc"):
        if not name.isdigit():
            continue
        try:
            file = os.open(f"/proc/{name}/stat", os.O_RDONLY | os.O_CLOEXEC)
            try:
                yield parse_stat(os.read(file, 4096), tick_s, page_bytes)
            finally:
                os.close(file)
        except OSError:  # it ended just now, or is hidden from this user
            continue


def _scan_elsewhere() -> Iterator[Process]:
    for process in psutil.process_iter():
        try:
            with process.oneshot():
                times = process.cpu_times()
                yield Process(
                    process.pid,
                    process.create_time(),
                    process.name(),
                    times.user + times.system,
                    process.memory_info().rss,
                )
        except (psutil.Error, OSError):  # it ended just now, or is hidden from this user
            continue


_scan: Callable[[], Iterator[Process]] = _scan_linux if sys.platform == "linux" else _scan_elsewhere
