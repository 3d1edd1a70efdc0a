"""The journal beside a file of lines: after every write, how long the file is, and what changed in the books.

Its last whole record is what counts: bytes of the file beyond its `size` belong to a write that was not finished.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import BinaryIO

import msgspec

from eventstorm_sinks.batch import Book, StreamKey

__all__ = ["Journal", "append_to", "write_durably"]

# The journal is written anew, with only what still counts, when it has grown to this and by this factor.
COMPACT_BYTES, COMPACT_FACTOR = 2**20, 4


class _Record(msgspec.Struct):
    size: int
    books: list[Book]
    forget: list[StreamKey]
    marks: list[tuple[StreamKey, int]]


_record_of = msgspec.json.Decoder(_Record).decode


class Journal:
    """Reads the journal at `path`, if there is one, and goes on in it.

    Attributes:
        size: how long the file of lines is, in bytes; None if there was no journal yet.
        books: the books last written.
        marks: of each stream, the number after the last one that is stored.

    Raises:
        OSError: it cannot be read or written.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self.size: int | None = None
        self.books: dict[StreamKey, Book] = {}
        self.marks: dict[StreamKey, int] = {}
        self._file = append_to(path)
        self._written = 0
        with path.open("rb") as lines:
            for line in lines:
                try:
                    if not line.endswith(b"\n"):
                        break
                    record = _record_of(line)
                except msgspec.DecodeError:
                    break
                self._written += len(line)
                self._enter(record)
        self._compact_at = max(COMPACT_BYTES, self._written)

    def append(
        self, size: int, books: Sequence[Book], forget: Sequence[StreamKey], marks: Mapping[StreamKey, int]
    ) -> None:
        """Make a write count: durably, or not at all.

        Raises:
            OSError: it is not written. The next call tries to clear up what is left of it.
        """
        record = _Record(size, list(books), list(forget), list(marks.items()))
        line = msgspec.json.encode(record) + b"\n"
        self._file.truncate(self._written)
        try:
            write_durably(self._file, line)
        except OSError:
            with contextlib.suppress(OSError):
                self._file.truncate(self._written)
            raise
        self._written += len(line)
        self._enter(record)
        if self._written > self._compact_at:
            with contextlib.suppress(OSError):  # a full disk: the long journal is as good
                self._compact()

    def _enter(self, record: _Record) -> None:
        self.size = record.size
        self.books.update((book.key, book) for book in record.books)
        self.marks.update(record.marks)
        for key in record.forget:
            self.books.pop(key, None)
            self.marks.pop(key, None)

    def _compact(self) -> None:
        assert self.size is not None
        line = msgspec.json.encode(_Record(self.size, list(self.books.values()), [], list(self.marks.items()))) + b"\n"
        new_path = self._path.with_name(self._path.name + ".new")
        new_path.unlink(missing_ok=True)
        new = append_to(new_path)
        try:
            write_durably(new, line)
            new_path.replace(self._path)
        except OSError:
            new.close()
            raise
        self._file.close()
        self._file, self._written = new, len(line)
        self._compact_at = max(COMPACT_BYTES, COMPACT_FACTOR * len(line))

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def write_durably(file: BinaryIO, data: bytes) -> None:
    """Write all of `data` to an unbuffered file, and wait until it is on the disk."""
    left = memoryview(data)
    while left:
        left = left[file.write(left) :]
    os.fsync(file.fileno())


def append_to(path: Path) -> BinaryIO:
    """Open a file for unbuffered appending."""
    return open(path, "ab", buffering=0)
