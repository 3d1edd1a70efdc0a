"""A look at all processes: what everybody who asks about processes shares, taken as often as it may cost."""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import psutil

__all__ = ["Look", "Process", "Scanner", "age_s", "parse_stat", "read_process"]

# Of one core. So a look at many processes is taken less often than every interval: with 70 of them it takes 1 ms.
_MAY_COST = 0.002
# Files that stay open, so that only reading them remains; of what the process may have open, a part.
_MOST_OPEN = 1000
_SHARE_OF_OPEN = 4


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
    virtual_bytes: int = 0
    threads: int = 1
    parent: int = 0
    is_zombie: bool = False
    """It has ended, and its parent has not asked for its exit code yet."""


@dataclass(frozen=True, slots=True)
class Look:
    """All processes that this user may see, at one moment."""

    now_s: float
    processes: list[Process]
    cpu_s: Mapping[tuple[int, float], float]
    """CPU time by pid and start."""

    def used_s(self, process: Process, before: Look) -> float:
        """Return the CPU time that a process has used since another look; all of it if it began since."""
        return max(process.cpu_s - before.cpu_s.get((process.pid, process.started), 0.0), 0.0)


class Scanner:
    """Takes looks that cost no more than 0.2 % of a core. Not safe for several threads."""

    def __init__(
        self, read: Callable[[], Iterable[Process]] | None = None, clock: Callable[[], float] = time.thread_time
    ) -> None:
        """Prepare; `clock` tells the CPU time of the thread."""
        self._read = read or (_LinuxFiles().read if sys.platform == "linux" else _read_all_elsewhere)
        self._clock = clock
        self._last: Look | None = None
        self._taken = 0
        self._due_s = 0.0

    def look(self, now_s: float) -> Look | None:
        """Return the look of this moment, the same to all who ask for the same `now_s`; None if none is due yet."""
        if self._last and self._last.now_s == now_s:
            return self._last
        if self._taken > 1 and now_s < self._due_s:
            return None
        start_s = self._clock()
        processes = list(self._read())
        # The first one opens files, which the others do not; and without a second one there is nothing to compare with.
        self._taken += 1
        self._due_s = now_s + (self._clock() - start_s) / _MAY_COST
        self._last = Look(now_s, processes, {(each.pid, each.started): each.cpu_s for each in processes})
        return self._last


def parse_stat(stat: bytes, tick_s: float, page_bytes: int) -> Process:
    """Read a line of Linux's ``/proc/PID/stat`` (proc_pid_stat(5)).

    Raises:
        ValueError: it is none.
        IndexError: it is cut off.
    """
    head, _, tail = stat.rpartition(b") ")
    pid, _, name = head.partition(b" (")
    fields = tail.split(maxsplit=22)  # from the third of the manual page on
    return Process(
        pid=int(pid),
        started=int(fields[19]),
        name=os.fsdecode(name),
        cpu_s=(int(fields[11]) + int(fields[12])) * tick_s,
        memory_bytes=int(fields[21]) * page_bytes,
        virtual_bytes=int(fields[20]),
        threads=int(fields[17]),
        parent=int(fields[1]),
        is_zombie=fields[0] in (b"Z", b"X"),
    )


def read_process(pid: int) -> Process | None:
    """Return the process that has a number now; None if there is none, or if it is hidden from this user."""
    try:
        if sys.platform != "linux":
            return _read_elsewhere(psutil.Process(pid))
        file = os.open(f"/proc/{pid}/stat", os.O_RDONLY | os.O_CLOEXEC)
        try:
            stat = os.read(file, 4096)
        finally:
            os.close(file)
        return parse_stat(stat, 1 / os.sysconf("SC_CLK_TCK"), os.sysconf("SC_PAGE_SIZE"))
    except (psutil.Error, OSError, ValueError, IndexError):
        return None


def age_s(process: Process) -> float:
    """Return how long ago a process started."""
    if sys.platform == "linux":
        # proc_pid_stat(5) counts from the boot; this clock does too, and goes on while the machine sleeps.
        return time.clock_gettime(time.CLOCK_BOOTTIME) - process.started / os.sysconf("SC_CLK_TCK")
    return time.time() - process.started


class _LinuxFiles:
    """Reads one small file a process, which stays open: a quarter of the time that psutil's objects need.

    A file of a process that has ended says so when it is read, also when its number is used again.
    """

    def __init__(self) -> None:
        self._tick_s, self._page_bytes = 1 / os.sysconf("SC_CLK_TCK"), os.sysconf("SC_PAGE_SIZE")
        self._most = _most_open()
        self._open: dict[str, int] = {}
        self._known: dict[str, tuple[bytes, Process]] = {}

    def read(self) -> list[Process]:
        """Return all processes."""
        known: dict[str, tuple[bytes, Process]] = {}
        for pid in os.listdir("/proc"):
            # All names of processes, and of nothing else there, begin with a digit.
            if not "0" <= pid[0] <= "9":
                continue
            stat = self._stat(pid)
            if stat is None:
                continue
            before = self._known.get(pid)
            # Most processes sleep, and what is told of them is the same to the byte.
            known[pid] = before if before and before[0] == stat else (stat, self._parse(stat))
        self._known = known
        for pid in self._open.keys() - known.keys():
            os.close(self._open.pop(pid))
        return [process for _, process in known.values()]

    def _parse(self, stat: bytes) -> Process:
        return parse_stat(stat, self._tick_s, self._page_bytes)

    def _stat(self, pid: str) -> bytes | None:
        """Return what is told of a process, or None if it ended just now or is hidden from this user."""
        if (file := self._open.get(pid)) is not None:
            with contextlib.suppress(OSError):
                return os.pread(file, 4096, 0)
            os.close(self._open.pop(pid))  # it ended, and this is another one
        try:
            file = os.open(f"/proc/{pid}/stat", os.O_RDONLY | os.O_CLOEXEC)
            try:
                stat = os.read(file, 4096)
            except BaseException:
                os.close(file)
                raise
        except OSError:
            return None
        if len(self._open) < self._most:
            self._open[pid] = file
        else:
            os.close(file)
        return stat

    def __del__(self) -> None:
        for file in self._open.values():
            os.close(file)


def _most_open() -> int:
    import resource  # not on Windows

    allowed, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return _MOST_OPEN if allowed == resource.RLIM_INFINITY else min(_MOST_OPEN, allowed // _SHARE_OF_OPEN)


def _read_all_elsewhere() -> Iterable[Process]:
    for process in psutil.process_iter():
        try:
            yield _read_elsewhere(process)
        except (psutil.Error, OSError):  # it ended just now, or is hidden from this user
            continue


def _read_elsewhere(process: psutil.Process) -> Process:
    with process.oneshot():
        times, memory = process.cpu_times(), process.memory_info()
        return Process(
            process.pid,
            process.create_time(),
            process.name(),
            times.user + times.system,
            memory.rss,
            memory.vms,
            process.num_threads(),
            process.ppid() or 0,
            process.status() == psutil.STATUS_ZOMBIE,
        )
