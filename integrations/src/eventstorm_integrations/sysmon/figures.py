"""What is measured of one chosen process, and what several use together."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TypeVar

import psutil

from eventstorm_integrations.sysmon.scan import Process, read_process

__all__ = ["Figures", "read_figures", "together"]

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Figures:
    """One process. None is what this user may not see, or what the platform does not have."""

    process: Process
    files: int | None = None
    read_bytes: int | None = None
    written_bytes: int | None = None
    voluntary_switches: int | None = None
    involuntary_switches: int | None = None

    @property
    def identity(self) -> tuple[int, float]:
        """The number and the start: of those who had and will have that number, this one."""
        return self.process.pid, self.process.started


def read_figures(pid: int) -> Figures | None:
    """Measure the process that has this number now; None if there is none, or if it is only waited for."""
    try:
        asked = psutil.Process(pid)
    except (psutil.Error, OSError, ValueError, OverflowError):
        return None
    files = _allowed(lambda: _open_files(asked))
    # Not on macOS.
    io = _allowed(asked.io_counters) if hasattr(asked, "io_counters") else None
    switches = _allowed(asked.num_ctx_switches)
    # Last, since it tells whose the others are: a number that changed hands meanwhile is found by its start.
    process = read_process(pid)
    if process is None or process.is_zombie:
        return None
    return Figures(
        process,
        files,
        io.read_bytes if io else None,
        io.write_bytes if io else None,
        switches.voluntary if switches else None,
        switches.involuntary if switches else None,
    )


def together(values: Iterable[float | None]) -> float | None:
    """Return the sum; None if one is not known, since the rest would be taken for all, or if there is none."""
    known = list(values)
    return None if not known or None in known else sum(each for each in known if each is not None)


def _allowed(ask: Callable[[], T]) -> T | None:
    try:
        return ask()
    except (psutil.Error, OSError, NotImplementedError):  # another user's, or it ended just now
        return None


def _open_files(process: psutil.Process) -> int | None:
    if sys.platform == "linux":
        # Since Linux 6.2 the folder has their number as its size; to list 100,000 of them takes 20 ms.
        folder = f"/proc/{process.pid}/fd"
        return os.stat(folder).st_size or len(os.listdir(folder))
    return process.num_fds() if hasattr(process, "num_fds") else None
