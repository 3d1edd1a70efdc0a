"""Log files that were rotated: where is now what was not read yet?

A file is known again by its first bytes: an inode's number is given to another file once it is free, and a copy,
compressed or not, has another inode.
"""

from __future__ import annotations

import contextlib
import glob
import hashlib
import os
import re
from collections.abc import Iterable
from dataclasses import dataclass

from eventstorm.errors import SettingError
from eventstorm_integrations.logs.compressed import LogFile

__all__ = ["Position", "files_since", "head_of", "names_of", "original", "series"]

# What logrotate and its kin append: .1, -20261124, .2026-11-24_10, and the ending of what compressed it.
_ROTATED = re.compile(r"[.-](\d[\d.:T_-]*)(\.(?:gz|zst))?\Z", re.ASCII)
_MOST_HEAD_BYTES = 256
# Fewer bytes tell files apart only together with the inode.
_LEAST_HEAD_BYTES = 32


@dataclass(frozen=True, slots=True)
class Position:
    """A place in a file, and how to know the file again."""

    inode: int
    offset: int
    """Where the first line begins that was not read."""
    head_bytes: int
    """How many of its first bytes `head` is the digest of."""
    head: str
    emptied_ns: int = 0
    """Of a file in which nothing was yet: when that was so."""

    def fits(self, data: bytes) -> bool:
        """Tell whether a file begins with what this one began with."""
        return len(data) >= self.head_bytes and head_of(data[: self.head_bytes])[1] == self.head

    def is_in(self, path: str) -> bool:
        """Tell whether it is in the file of this name, compressed or not."""
        try:
            with LogFile(path) as file:
                if not self.fits(file.head(self.head_bytes)):
                    return False
                return self.head_bytes >= _LEAST_HEAD_BYTES or file.status().st_ino == self.inode
        except (OSError, SettingError):
            return False


def head_of(data: bytes) -> tuple[int, str]:
    """Return how many of a file's first bytes its digest is of, and the digest."""
    data = data[:_MOST_HEAD_BYTES]
    return len(data), hashlib.sha256(data).hexdigest()[:32]


def files_since(path: str, position: Position) -> list[tuple[str, int]]:
    """Return the rotated files that hold what came after a position, oldest first, each with where to begin.

    Empty if the file of the position is not there any more. `path` itself, the newest file, is not among them.
    """
    found = _rotated(path)
    if not position.head_bytes and position.emptied_ns:  # nothing tells it, but all that is newer was not read
        return [(name, 0) for name in found if _modified_ns(name) > position.emptied_ns]
    for index, name in enumerate(found):
        if position.is_in(name):
            return [(name, position.offset), *((later, 0) for later in found[index + 1 :])]
    return []


def names_of(path: str) -> list[tuple[str, int]]:
    """Return the names of a log and its rotated files, each with the inode that has it."""
    found: list[tuple[str, int]] = []
    for name in sorted([path, *_rotated(path)]):
        with contextlib.suppress(OSError):
            found.append((name, os.stat(name).st_ino))
    return found


def original(path: str) -> str:
    """Return the name that a file had before it was rotated, as far as its name tells; empty if it does not."""
    found = _ROTATED.search(os.path.basename(path))
    return path[: found.start() - len(os.path.basename(path))] if found and found.start() else ""


def series(paths: Iterable[str]) -> list[list[str]]:
    """Put those files together that are one log, rotated; the oldest first."""
    logs: dict[str, list[str]] = {}
    given = list(paths)
    for path in given:
        logs.setdefault(original(path) or path.removesuffix(".gz").removesuffix(".zst"), []).append(path)
    return [sorted(each, key=_age) for each in logs.values()]


def _age(path: str) -> tuple[object, ...]:
    """Return what sorts rotated files, the oldest first: when they were last written to, or else their names."""
    found = _ROTATED.search(path)
    number = found[1] if found else ""
    # .2 is older than .1, but -20261124 is newer than -20261123; what was not rotated is the newest.
    rank = (1, 0, number) if len(number) > 5 else (0, -int(number), "") if number.isdigit() else (2, 0, "")
    return _modified_ns(path), rank


def _modified_ns(path: str) -> int:
    """Return when a file was last written to; 0 if it is not there any more."""
    try:
        return os.stat(path).st_mtime_ns
    except OSError:
        return 0


def _rotated(path: str) -> list[str]:
    """Return the rotated files of a log, the oldest first."""
    places = {path, os.path.realpath(path)}
    names = {name for place in places for name in glob.glob(glob.escape(place) + "[.-]*") if original(name) == place}
    # While it is being compressed, both are there.
    return sorted((name for name in names if os.path.splitext(name)[0] not in names), key=_age)
