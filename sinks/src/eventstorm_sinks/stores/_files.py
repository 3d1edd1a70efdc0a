"""Files that are written durably, and by one process at a time."""

from __future__ import annotations

import os
from pathlib import Path
from typing import BinaryIO

from eventstorm.errors import StartError

try:
    import fcntl
except ImportError:  # Windows: two processes are not kept from writing the same file there
    fcntl = None  # type: ignore[assignment]

__all__ = ["append_to", "lock_file", "sync_folder", "write_durably"]


def write_durably(file: BinaryIO, data: bytes) -> None:
    """Write all of `data` to an unbuffered file, and wait until it is on the disk."""
    left = memoryview(data)
    while left:
        left = left[file.write(left) :]
    os.fsync(file.fileno())


def append_to(path: Path) -> BinaryIO:
    """Open a file for unbuffered appending."""
    return open(path, "ab", buffering=0)


def sync_folder(path: Path) -> None:
    """Wait until the names of the files in a folder are on the disk."""
    number = os.open(path, os.O_RDONLY)
    try:
        os.fsync(number)
    finally:
        os.close(number)


def lock_file(path: Path, name: str, *, to_read: bool = False) -> BinaryIO:
    """Return an open file that no other process has locked; or none but to read, as this one does.

    Raises:
        StartError: one has; `name` is what it writes.
        OSError: it cannot be opened.
    """
    file = append_to(path)
    try:
        if fcntl is not None:
            fcntl.flock(file, (fcntl.LOCK_SH if to_read else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except BlockingIOError:
        file.close()
        raise StartError(f"{name}: another process writes there; stop it, or use another place") from None
    except OSError:
        file.close()
        raise
    return file
