"""Follows a log file through rotation, truncation and restarts, so that each of its lines is read once.

A `FollowedPath` reads one file after the other, in the order in which they were written: after a restart that may be
what is left of a file that was rotated meanwhile, those that came after it, and the one that has the name now.
"""

from __future__ import annotations

import logging
import os
import stat
from collections import deque
from collections.abc import Callable, Iterator
from typing import NamedTuple

from eventstorm.errors import SettingError
from eventstorm_integrations.logs.compressed import LogFile
from eventstorm_integrations.logs.lines import LineSplitter
from eventstorm_integrations.logs.rotated import Position, files_since, head_of, names_of

__all__ = ["Block", "FollowedPath"]

log = logging.getLogger(__name__)

_BLOCK_BYTES = 256 * 1024
_HEAD_BYTES = 256
# A program goes on writing into a file that was renamed until it is told to reopen it; once that was silent for so
# long, and the new file has something in it, what follows is read from there. One that never reopens is left then.
_QUIET_S = 2.0
_LONGEST_S = 30.0
# How often it is looked again where files are if they were rotated while they were being opened.
_MOST_LOOKS = 10


class Block(NamedTuple):
    """Some lines, and when the file was last written to; that is their year where they leave it out."""

    lines: list[str]
    modified_s: float
    too_long: list[str]
    """How the lines begin that were longer than they may be."""
    size_bytes: int


class FollowedPath:
    """What is, was and will be under one name. It need not be there yet.

    Args:
        path: the name.
        max_line_bytes: see `LineSplitter`.
        position: where an earlier run stopped; None if there was none.
        from_start: whether, without a position, the file is read from its begin; else what is in it is left out.
    """

    def __init__(self, path: str, max_line_bytes: int, position: Position | None, *, from_start: bool) -> None:
        self.path = path
        self._most = max_line_bytes
        self._readings: deque[_Reading] = deque()
        self._seen: tuple[int, ...] | None = None
        self._renamed_at_s: float | None = None
        self._look_between_at_s = 0.0
        self._complained = ""
        self._from_start = True
        if position is not None:
            self._resume(position)
        elif not from_start:
            self._from_start = False
            self._open_newest()
            # A file that appears later is read from its begin: all of it is new.
            self._from_start = True

    @property
    def inode(self) -> tuple[int, int] | None:
        """The device and the inode of the newest file, None if there is none."""
        return self._readings[-1].identity if self._readings else None

    @property
    def position(self) -> Position:
        """Where the first line begins that was not returned; of no file if there was none yet."""
        return self._readings[0].position() if self._readings else Position(0, 0, *head_of(b""))

    def poll(self, now_s: float, most_blocks: int = 64) -> Iterator[Block]:
        """Yield what is new, in blocks, not more than so many: other files want their turn too.

        `position` is right between two blocks as well.

        Args:
            now_s: a clock, for what takes time.
            most_blocks: about 256 KiB each.
        """
        now = self._status()
        if now is not None and now == self._seen:
            return
        self._seen = None
        while most_blocks > 0:
            if not self._readings and not self._open_newest():
                return
            reading = self._readings[0]
            try:
                block = reading.read(now_s)
            except OSError as error:
                self._complain(f"cannot be read: {error}")
                reading.close()
                self._readings.popleft()
                return
            if block is not None:
                most_blocks -= 1
                if block.lines or block.too_long:
                    yield block
            elif len(self._readings) > 1:
                self._readings.popleft()
                yield from reading.rest()
                reading.close()
            elif not self._go_on(reading, now_s):
                if self._renamed_at_s is None:
                    self._seen = now
                return

    def end(self) -> Iterator[Block]:
        """Yield what is behind the last line's end as a line, for who will not come back."""
        for reading in self._readings:
            yield from reading.rest()

    def close(self) -> None:
        """Close the files."""
        for reading in self._readings:
            reading.close()
        self._readings.clear()

    def _status(self) -> tuple[int, ...] | None:
        try:
            about = os.stat(self.path)
        except OSError:
            return None
        return about.st_dev, about.st_ino, about.st_size, about.st_mtime_ns

    def _resume(self, position: Position) -> None:
        def open_all() -> bool:
            try:
                size_bytes = os.stat(self.path).st_size
                same = size_bytes >= position.offset and bool(position.head_bytes) and position.is_in(self.path)
            except OSError:
                same = False
            return self._open(self.path, position.offset) if same else self._open_since(position)

        self._unmoved(open_all)
        if position.head_bytes and not any(each.holds(position) for each in self._readings):
            log.warning("%s: what an earlier run had read of is not there any more", self.path)

    def _open_since(self, position: Position, skip: int = 0, *, newest: bool = True) -> bool:
        """Open the rotated files that were written after a position, and the newest; tell whether there are any."""
        opened = [self._open(path, offset) for path, offset in files_since(self.path, position)[skip:]]
        return any([*opened, newest and self._open_newest()])

    def _unmoved(self, open_all: Callable[[], bool]) -> bool:
        """Open files by their names, once more if these were given to others meanwhile; tell whether some were opened.

        Else who rotates at that moment could have a file left out, or read from where another one was read to.
        """
        opened = len(self._readings)
        done, looks = False, 0
        before: list[tuple[str, int]] | None = None
        while before != (now := names_of(self.path)) and looks < _MOST_LOOKS:
            while len(self._readings) > opened:
                self._readings.pop().close()
            before, looks = now, looks + 1
            done = open_all()
        return done

    def _go_on(self, reading: _Reading, now_s: float) -> bool:
        """Look whether something else follows a file that was read to its end; tell whether it does."""
        if reading.was_truncated():
            self._readings.clear()
            position = reading.position()
            # Whoever truncated it may have copied it before, with lines that were not read.
            opened = self._unmoved(lambda: self._open_since(position))
            reading.close()
            return opened
        try:
            about = os.stat(self.path)
        except OSError:
            return self._go_on_between(reading, now_s)
        if (about.st_dev, about.st_ino) == reading.identity:
            self._renamed_at_s = None
            return False
        if self._renamed_at_s is None:
            self._renamed_at_s = now_s
        if about.st_size == 0:
            return self._go_on_between(reading, now_s)
        if now_s < reading.last_read_s + _QUIET_S and now_s < self._renamed_at_s + _LONGEST_S:
            return False
        self._renamed_at_s = None
        position = reading.position()
        # Those between the two, where it was rotated again meanwhile.
        return self._unmoved(lambda: self._open_since(position, skip=1))

    def _go_on_between(self, reading: _Reading, now_s: float) -> bool:
        """Where nothing is in the newest file, look whether there are some between it and one that was read to its end.

        The newest stays unopened: the program may be writing to the last of these still.
        """
        if now_s < max(reading.last_read_s + _QUIET_S, self._look_between_at_s):
            return False
        self._look_between_at_s = now_s + _LONGEST_S
        position = reading.position()
        return self._unmoved(lambda: self._open_since(position, skip=1, newest=False))

    def _open_newest(self) -> bool:
        return self._open(self.path, 0 if self._from_start else None)

    def _open(self, path: str, offset: int | None) -> bool:
        try:
            # Not open(), which waits for a writer if it is a pipe.
            if not stat.S_ISREG(os.stat(path).st_mode):
                self._complain("is no regular file")
                return False
            self._readings.append(_Reading(path, offset, self._most))
        except FileNotFoundError:
            return False
        except (OSError, SettingError) as error:
            self._complain(f"cannot be opened: {error}")
            return False
        self._complained = ""
        return True

    def _complain(self, text: str) -> None:
        if text != self._complained:
            log.warning("%s %s", self.path, text)
            self._complained = text


class _Reading:
    """A file that is being read; it stays the same file, whatever becomes of its name."""

    def __init__(self, path: str, offset: int | None, max_line_bytes: int) -> None:
        self._file = LogFile(path)
        self._splitter = LineSplitter(max_line_bytes)
        about = self._file.status()
        self.identity = about.st_dev, about.st_ino
        self._compressed = not self._file.grows
        self._head = self._file.head(_HEAD_BYTES)
        self._offset = about.st_size if offset is None else offset
        self._file.skip(self._offset)
        self.last_read_s = 0.0
        if offset is None and self._offset:
            self._begin_with_a_line()

    def _begin_with_a_line(self) -> None:
        """Where the end of the file is amid a line, begin with that line: its other half would be of no use."""
        back = min(self._offset, _BLOCK_BYTES)
        self._file.skip(-back)
        tail = self._file.read(back)
        self._offset += len(tail) - back
        cut = len(tail) - tail.rfind(b"\n") - 1
        if 0 < cut < len(tail):
            self._splitter.feed(tail[-cut:])

    def read(self, now_s: float) -> Block | None:
        """Return the next lines, which may be none though bytes came; None at the end.

        Raises:
            OSError: it cannot be read.
        """
        if not self._compressed and self._is_another():
            return None
        data = self._file.read(_BLOCK_BYTES)
        if not data:
            return None
        self.last_read_s = now_s
        if len(self._head) < _HEAD_BYTES and not self._compressed:
            self._head = self._file.head(_HEAD_BYTES)
        self._offset += len(data)
        lines = self._splitter.feed(data)
        return Block(lines, self._file.status().st_mtime, self._splitter.too_long(), len(data))

    def rest(self) -> Iterator[Block]:
        """Yield what has no line end."""
        if lines := self._splitter.rest():
            yield Block(lines, self._file.status().st_mtime, [], 0)

    def position(self) -> Position:
        """Return where the first line begins that was not returned."""
        emptied_ns = 0 if self._head else self._file.status().st_mtime_ns
        return Position(self.identity[1], self._offset - self._splitter.pending_bytes, *head_of(self._head), emptied_ns)

    def holds(self, position: Position) -> bool:
        """Tell whether it is the file of a position."""
        return position.fits(self._head)

    def was_truncated(self) -> bool:
        """Tell whether the file was emptied, and perhaps filled anew, since it was read."""
        return not self._compressed and (self._file.status().st_size < self._offset or self._is_another())

    def close(self) -> None:
        """Close it."""
        self._file.close()

    def _is_another(self) -> bool:
        return self._file.head(len(self._head)) != self._head
