"""What somebody chose to have measured: which processes it is made of at a moment."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from math import inf
from pathlib import Path
from typing import Protocol

import psutil

from eventstorm_integrations.sysmon.scan import Look, Process, read_process
from eventstorm_integrations.sysmon.text import printable
from eventstorm_integrations.sysmon.units import SUFFIXES, find_unit, pids_in

__all__ = ["Choice", "Members", "choices", "descendants"]

Members = Mapping[int, "float | None"]
"""Processes by number, each with its start if it has to be that one."""

# How often to look for a unit that does not run.
_LOOK_S = 10.0
# Linux keeps so many bytes of a program's name.
_KEPT_NAME = 15


class Choice(Protocol):
    """Something to be measured as one."""

    name: str
    needs_look: bool
    """Whether its processes are looked for among all."""

    def members(self, now_s: float, look: Look | None) -> Members | None:
        """Return its processes, as far as `look`, the last one, lets them be seen; None if it does not run."""
        ...


def choices(pids: Iterable[int], services: Iterable[str], root: Path = Path("/")) -> list[Choice]:
    """Return what is chosen by the settings. A process is the one that has the number now, and no later one."""
    found: list[Choice] = [_Pid(pid) for pid in pids]
    for service in services:
        if "/" in service:
            found.append(_PidFile(service))
        elif service.endswith(SUFFIXES):
            found.append(_Unit(service, root))
        else:
            found.append(_Program(service))
    return found


def descendants(roots: Iterable[Process], look: Look | None) -> dict[int, float | None]:
    """Return processes with all that they have started, and these in turn, and that still have them as parents."""
    found: dict[int, float | None] = {}
    children: dict[int, list[Process]] = {}
    for each in look.processes if look else ():
        children.setdefault(each.parent, []).append(each)
    to_come = list(roots)
    while to_come:
        process = to_come.pop()
        if process.pid not in found:
            found[process.pid] = process.started
            # A parent is older than its children: else the number was used again since that look.
            to_come += (each for each in children.get(process.pid, ()) if each.started >= process.started)
    return found


class _Pid:
    needs_look = True

    def __init__(self, pid: int, read: Callable[[int], Process | None] = read_process) -> None:
        self._read = read
        self._chosen = read(pid)
        self.name = f"{printable(self._chosen.name)} ({pid})" if self._chosen else f"process {pid}"

    def members(self, now_s: float, look: Look | None) -> Members | None:
        if self._chosen is None:
            return None
        now = self._read(self._chosen.pid)
        if now is None or now.is_zombie or now.started != self._chosen.started:
            self._chosen = None  # for good: whoever has the number later is somebody else
            return None
        return descendants([now], look)


class _PidFile:
    needs_look = True

    def __init__(self, path: str, read: Callable[[int], Process | None] = read_process) -> None:
        self.name = printable(path)
        self._path = path
        self._read = read
        self._written: tuple[int, int] = (0, 0)
        self._started: float | None = None

    def members(self, now_s: float, look: Look | None) -> Members | None:
        try:
            pid, changed = _read_pid(self._path)
        except (OSError, ValueError, IndexError):  # not there yet, or being written
            return None
        now = self._read(pid)
        if now is None or now.is_zombie:
            return None
        if self._written != (pid, changed):
            self._written, self._started = (pid, changed), now.started
        # One that has died leaves its file behind, and its number to somebody else.
        return descendants([now], look) if now.started == self._started else None


def _read_pid(path: str) -> tuple[int, int]:
    """Return the number in a file, and when it was written, without waiting for anybody, as a named pipe would."""
    file = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0))
    try:
        return int(os.read(file, 64).split()[0]), os.fstat(file).st_mtime_ns
    finally:
        os.close(file)


class _Unit:
    needs_look = False

    def __init__(self, name: str, root: Path) -> None:
        self.name = name
        self._root = root
        self._folder: Path | None = None
        self._due_s = -inf

    def members(self, now_s: float, look: Look | None) -> Members | None:
        pids = pids_in(self._folder) if self._folder else None
        if pids is None:
            self._folder = None
            if now_s < self._due_s:
                return None
            self._due_s = now_s + _LOOK_S
            try:
                self._folder = find_unit(self._root, self.name)
            except OSError:  # not Linux
                return None
            pids = pids_in(self._folder) if self._folder else None
        return None if pids is None else dict.fromkeys(pids)


class _Program:
    needs_look = True

    def __init__(self, name: str) -> None:
        self.name = printable(name)
        self._wanted = os.fsencode(name)

    def members(self, now_s: float, look: Look | None) -> Members | None:
        return {each.pid: each.started for each in look.processes if self._is(each)} if look else None

    def _is(self, process: Process) -> bool:
        name, wanted = os.fsencode(process.name), self._wanted
        if name == wanted:
            return True
        if len(name) != _KEPT_NAME or not wanted.startswith(name):
            return False
        try:
            return os.fsencode(psutil.Process(process.pid).name()) == wanted  # completed by the command line
        except (psutil.Error, OSError):
            return False
