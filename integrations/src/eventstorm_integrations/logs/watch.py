"""Wakes who follows files as soon as one of them changes, where the system has inotify.

It only ends a wait early: what has changed is seen by looking, which goes on also where nothing tells, as on file
systems of other machines.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterable

__all__ = ["Watch"]

log = logging.getLogger(__name__)


class Watch:
    """Tells of changes to files."""

    def __init__(self) -> None:
        """Begin.

        Raises:
            ImportError: there is no package for it.
            OSError: the system has no inotify, or too many programs use it.
        """
        from inotify_simple import INotify, flags

        self._inotify = INotify(nonblocking=True)
        self._watched: dict[str, object] = {}
        self._mask = int(flags.MODIFY | flags.MOVE_SELF | flags.DELETE_SELF | flags.ATTRIB)

    @classmethod
    def open(cls) -> Watch | None:
        """Return one, or None if there can be none."""
        try:
            return cls()
        except (ImportError, OSError, AttributeError) as error:  # a C library without inotify has no such function
            log.debug("files are only looked at from time to time: %s", error)
            return None

    def look_at(self, files: Iterable[tuple[str, object]]) -> bool:
        """Watch the files that have these names now, and those that had them before until they are deleted.

        Args:
            files: names, each with what tells one file from the next of that name, None if there is no file.

        Returns:
            Whether one of them was not watched before.
        """
        added = False
        for path, inode in files:
            if inode is not None and self._watched.get(path) != inode:
                self._watched[path] = inode
                with contextlib.suppress(OSError):  # it is gone again, or there are too many
                    self._inotify.add_watch(path, self._mask)
                    added = True
        return added

    def fileno(self) -> int:
        """Return what can be waited for."""
        fd: int = self._inotify.fileno()
        return fd

    def clear(self) -> None:
        """Forget what has changed so far."""
        with contextlib.suppress(BlockingIOError):
            self._inotify.read(timeout=0)

    def close(self) -> None:
        """End it."""
        self._inotify.close()
