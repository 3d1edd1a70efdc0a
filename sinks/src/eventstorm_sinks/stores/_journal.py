"""The journal beside a file of lines: after every write, how long the file is, and what changed in the books.

Its last whole record is what counts: bytes of the file beyond its `size` belong to a write that was not finished.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import BinaryIO

import msgspec

from eventstorm_sinks.batch import Book, StreamKey
from eventstorm_sinks.stores._files import append_to, write_durably

__all__ = ["Journal", "read_journal"]

# The journal is written anew, with only what still counts, when it has grown to this and by this factor.
COMPACT_BYTES, COMPACT_FACTOR = 2**20, 4


class _Record(msgspec.Struct):
    size: int
    books: list[Book]
    forget: list[StreamKey]
    marks: list[tuple[StreamKey, int]]


_record_of = msgspec.json.Decoder(_Record).decode


class _State:
    """What the records of a journal say together."""

    def __init__(self) -> None:
        self.size: int | None = None
        self.books: dict[StreamKey, Book] = {}
        self.marks: dict[StreamKey, int] = {}

    def _enter_all(self, lines: BinaryIO) -> int:
        """Enter the whole records of a file, and return how many bytes they are."""
        read = 0
        for line in lines:
            try:
                if not line.endswith(b"\n"):
                    break
                record = _record_of(line)
            except msgspec.DecodeError:
                break
            read += len(line)
            self._enter(record)
        return read

    def _enter(self, record: _Record) -> None:
        self.size = record.size
        self.books.update((book.key, book) for book in record.books)
        self.marks.update(record.marks)
        for key in record.forget:
            self.books.pop(key, None)
            self.marks.pop(key, None)


def read_journal(path: Path) -> tuple[int | None, list[Book]]:
    """Return how long the file of lines is, or None if there is no journal; and the books last written.

    Raises:
        OSError: it cannot be read.
    """
    state = _State()
    with contextlib.suppress(FileNotFoundError), path.open("rb") as lines:
        state._enter_all(lines)
    return state.size, list(state.books.values())


class Journal(_State):
    """Reads the journal at `path`, if there is one, and goes on in it.

    Attributes:
        size: how long the file of lines is, in bytes; None if there was no journal yet.
        books: the books last written.
        marks: of each stream, the number after the last one that is stored.

    Raises:
        OSError: it cannot be read or written.
    """

    def __init__(self, path: Path) -> None:
        super().__init__()
        self._path = path
        self._file = append_to(path)
        with path.open("rb") as lines:
            self._written = self._enter_all(lines)
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
