"""systemd's units (services, scopes, slices) as the control groups that they are: where one is, and who is in it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from eventstorm_integrations.sysmon.cgroups import mount_points

__all__ = ["SUFFIXES", "find_unit", "pids_in"]

SUFFIXES = (".service", ".scope", ".slice")

# Where nearly all are, looked at first.
_USUAL = ("system.slice", "")
# A busy container host has a few thousand; a tree beyond that is not searched to its end.
_MOST_FOLDERS = 20_000


def find_unit(root: Path, name: str) -> Path | None:
    """Return the folder of the cgroup of unit `name`, the uppermost if there are several; None if it does not run.

    Raises:
        OSError: the system has no cgroups.
    """
    # With both versions, systemd keeps its units in a hierarchy of version 1 that has its own name.
    for kind in ("name=systemd", ""):
        for point in mount_points(root, kind):
            for usual in _USUAL:
                if (point / usual / name).is_dir():
                    return point / usual / name
            if found := next((each for each in _folders(point) if each.name == name), None):
                return found
    return None


def pids_in(folder: Path) -> list[int] | None:
    """Return the processes in a cgroup and in those below it; None if there is no such cgroup any more."""
    if not folder.is_dir():
        return None
    pids: list[int] = []
    for each in _folders(folder):
        try:
            pids += map(int, (each / "cgroup.procs").read_text("ascii").split())
        except (OSError, ValueError):  # it went just now, or holds threads of processes that are listed above
            continue
    return pids


def _folders(top: Path) -> Iterator[Path]:
    """Yield `top` and the folders below it, those of one depth before the next ones."""
    level, seen = [str(top)], 0
    while level and seen < _MOST_FOLDERS:
        below: list[str] = []
        for each in level:
            yield Path(each)
            seen += 1
            try:
                with os.scandir(each) as entries:
                    below += sorted(entry.path for entry in entries if entry.is_dir(follow_symlinks=False))
            except OSError:
                continue
        level = below
