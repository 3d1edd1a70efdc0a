"""A store of JSON lines: ``jsonl:PATH``, or ``jsonl:-`` for standard output.

Beside PATH lies ``PATH.books``, the journal of what is committed, and ``PATH.lock``. With ``keep`` or ``keep_size``,
PATH is renamed to ``PATH.000001`` and so on whenever it holds a tenth of that, and the oldest of these segments are
deleted: so up to a tenth more is kept than asked for. Standard output keeps no books and cannot be read.

Sinks that share the events write a file each: of ``events.jsonl`` the second of three writes ``events-2of3.jsonl``.
When their number changes, each finds in the books beside the others' files where its streams go on.
"""

from __future__ import annotations

import contextlib
import glob
import logging
import os
import re
import signal
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path

import msgspec

from eventstorm.errors import StartError
from eventstorm_sinks.batch import Batch, Book, StoredEvent, StreamKey
from eventstorm_sinks.books import handed_over
from eventstorm_sinks.settings import SinkSettings, parse_duration, parse_size
from eventstorm_sinks.share import WHOLE, Share
from eventstorm_sinks.stores import StoreUnavailable
from eventstorm_sinks.stores._files import append_to, lock_file, write_durably
from eventstorm_sinks.stores._journal import Journal
from eventstorm_sinks.stores._jsonl_reader import JsonlReader, read_files, segments_of
from eventstorm_sinks.stores._lines import decode_head, encode_line
from eventstorm_sinks.stores.where import Condition, chosen

__all__ = ["JsonlStore"]

log = logging.getLogger(__name__)

# Retention goes by whole segments: the finer they are, the closer it keeps to what was asked for.
SEGMENTS = 10


class JsonlStore:
    """See the module, and `eventstorm_sinks.stores.Store` for the methods."""

    def __init__(self, location: str, settings: SinkSettings) -> None:
        """Open or create the file, and cut off what an earlier process did not finish writing.

        Raises:
            StartError: it cannot be written.
        """
        if not Path(location).name:
            raise StartError(f"jsonl:{location} names no file; write one as jsonl:events.jsonl")
        self._file: _File | None = None if location == "-" else _File(Path(location), settings)

    @classmethod
    def open_to_read(cls, location: str, settings: SinkSettings) -> JsonlReader:
        """Read a file that is there, which a sink may be writing."""
        return JsonlReader(location)

    @staticmethod
    def why_not_shared(location: str) -> str:
        """Return why several sinks cannot write there, each its own file; nothing if they can."""
        return "standard output keeps no books; write to a file, jsonl:PATH" if location == "-" else ""

    def write(self, batches: Sequence[Batch], books: Sequence[Book], forget: Sequence[StreamKey] = ()) -> None:
        """Append the events that are not there yet, then the books that say so."""
        if self._file is None:
            _print(b"".join(encode_line(batch, event) for batch in batches for event in batch.events))
        else:
            self._file.write(batches, books, forget, beyond_marks=True)

    def insert(self, batches: Sequence[Batch], books: Sequence[Book]) -> None:
        """Append events that are not there yet, then the books that say so; see `Archive.insert`."""
        if self._file is None:
            _print(b"".join(encode_line(batch, event) for batch in batches for event in batch.events))
        else:
            self._file.write(batches, books, (), beyond_marks=False)

    def books(self) -> list[Book]:
        """Return the books last written."""
        return list(self._file.journal.books.values()) if self._file else []

    def read(
        self,
        topics: Sequence[str] = (),
        start_ms: int | None = None,
        stop_ms: int | None = None,
        where: Sequence[Condition] = (),
    ) -> Iterator[StoredEvent]:
        """Yield events in the order of time: sorted in 32 MiB of memory, with temporary files for what is beyond.

        Of what went to standard output nothing can be read back.
        """
        if self._file is None:
            return iter(())
        return chosen(self._file.read(frozenset(topics), start_ms, stop_ms), where)

    def maintain(self) -> None:
        """Delete segments that are too old or too many."""
        if self._file:
            self._file.remove_old()

    def close(self) -> None:
        """Close the file."""
        if self._file:
            self._file.close()


def _print(lines: bytes) -> None:
    try:
        sys.stdout.buffer.write(lines)
        sys.stdout.buffer.flush()
    except BrokenPipeError as error:
        # The reader went away, as in `| head`: there is nobody to write for, ever again. End as if asked to.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        os.kill(os.getpid(), signal.SIGTERM)
        raise StoreUnavailable("standard output is closed") from error
    except OSError as error:
        raise StoreUnavailable(f"standard output: {error.strerror}") from error


class _File:
    def __init__(self, path: Path, settings: SinkSettings) -> None:
        self._share = Share.parse(settings.share, settings.share_by, "sink.share")
        self._whole, self._path = path, _path_of(path, self._share)
        path = self._path
        self._keep_s = parse_duration(settings.keep, "sink.keep")
        self._keep_bytes = parse_size(settings.keep_size, "sink.keep_size")
        self._turn_s = self._keep_s / SEGMENTS if self._keep_s else None
        self._turn_bytes = self._keep_bytes / SEGMENTS if self._keep_bytes else None
        # Guards what readers see: which segments there are, and how much of the last one counts.
        self._lock = threading.Lock()
        self._closed = False
        try:
            self._locked = lock_file(path.with_name(path.name + ".lock"), f"jsonl:{path}")
            try:
                self._open()
            except (OSError, StartError):
                self._locked.close()
                raise
        except OSError as error:
            raise StartError(f"jsonl:{path}: cannot open {error.filename or path}: {error.strerror}") from None

    def _open(self) -> None:
        others = list(self._books_of_others())
        self.journal = Journal(self._path.with_name(self._path.name + ".books"))
        self._active = append_to(self._path)
        there = self._active.tell()
        if self.journal.size is None and there:
            self._size = self._adopt()
        else:
            self._size = min(self.journal.size or 0, there)
        if there > self._size:
            log.warning(
                "jsonl:%s: cut off %d bytes at the end, which an earlier process had not finished writing",
                self._path, there - self._size,
            )  # fmt: skip
            self._active.truncate(self._size)
        self._began_s = self._first_ts_s()
        self._is_clean = True
        if handed := handed_over(self.journal.books, others, self._share):
            self.journal.append(self._size, handed, [], {})

    def _books_of_others(self) -> Iterator[Book]:
        """Yield what sinks that divided the events in another way wrote of streams that may be this one's now."""
        for path in sorted(
            self._whole.parent.glob(f"{glob.escape(self._whole.stem)}*{glob.escape(self._whole.suffix)}")
        ):
            share = _share_of(path, self._whole)
            journal = path.with_name(path.name + ".books")
            if path != self._path and share and share.overlaps(self._share) and journal.exists():
                # Nobody may be writing there any more; others may be reading.
                with lock_file(path.with_name(path.name + ".lock"), f"jsonl:{path}", to_read=True):
                    other = Journal(journal)
                    other.close()
                yield from other.books.values()

    def _adopt(self) -> int:
        """Learn from a file that has no journal what is in it; return where its last whole line ends."""
        size = 0
        with self._path.open("rb") as lines:
            for line in lines:
                if not line.endswith(b"\n"):
                    break
                with contextlib.suppress(msgspec.DecodeError, ValueError):  # not one of our lines: let it be
                    identity = bytes.fromhex(decode_head(line).id)
                    key = StreamKey(identity[:12], int.from_bytes(identity[12:16], "big"))
                    seq = int.from_bytes(identity[16:], "big")
                    self.journal.marks[key] = max(self.journal.marks.get(key, 0), seq + 1)
                size += len(line)
        self.journal.append(size, [], [], self.journal.marks)
        return size

    def _first_ts_s(self) -> float:
        with self._path.open("rb") as lines, contextlib.suppress(msgspec.DecodeError, KeyError, ValueError):
            return decode_head(lines.readline()).ts_ms / 1000
        return time.time()

    def write(
        self, batches: Sequence[Batch], books: Sequence[Book], forget: Sequence[StreamKey], *, beyond_marks: bool
    ) -> None:
        lines: list[bytes] = []
        marks: dict[StreamKey, int] = {}
        for batch in batches:
            key = batch.key
            mark = marks.get(key, self.journal.marks.get(key, 0))
            for event in batch.events:
                if event.seq >= mark or not beyond_marks:
                    lines.append(encode_line(batch, event))
                    mark = max(mark, event.seq + 1)
            marks[key] = mark
        data = b"".join(lines)
        try:
            if not self._is_clean:
                self._active.truncate(self._size)
                self._is_clean = True
            self._turn_if_due()
            if data:
                self._is_clean = False
                write_durably(self._active, data)
            self.journal.append(self._size + len(data), books, forget, marks)
        except OSError as error:
            with contextlib.suppress(OSError):  # tried again before the next write
                self._active.truncate(self._size)
                self._is_clean = True
            raise StoreUnavailable(f"jsonl:{self._path}: {error.strerror}") from error
        with self._lock:
            self._size += len(data)
            self._is_clean = True

    def _turn_if_due(self) -> None:
        due = (self._turn_bytes is not None and self._size >= self._turn_bytes) or (
            self._turn_s is not None and time.time() - self._began_s >= self._turn_s
        )
        if not (due and self._size):
            return
        number = max((int(each.suffix[1:]) for each in segments_of(self._path)), default=0) + 1
        segment = Path(f"{self._path}.{number:06}")
        with self._lock:
            self._path.rename(segment)
            try:
                new = append_to(self._path)
            except OSError:
                segment.rename(self._path)
                raise
            self._active.close()
            self._active = new
            self._size = 0
            self._began_s = time.time()
        self.journal.append(0, [], [], {})
        self.remove_old()

    def remove_old(self) -> None:
        segments = [(each, each.stat()) for each in segments_of(self._path)]
        total = self._size + sum(stat.st_size for _, stat in segments)
        for path, stat in segments:
            # The last write is the newest event, or nearly so.
            is_old = self._keep_s is not None and stat.st_mtime < time.time() - self._keep_s
            if is_old or (self._keep_bytes is not None and total > self._keep_bytes):
                path.unlink(missing_ok=True)
                total -= stat.st_size

    def read(self, topics: frozenset[str], start_ms: int | None, stop_ms: int | None) -> Iterator[StoredEvent]:
        with ExitStack() as stack:
            with self._lock:
                parts: list[tuple[Path, int | None]] = [(each, None) for each in segments_of(self._path)]
                parts.append((self._path, self._size))
                files = [(stack.enter_context(path.open("rb")), size) for path, size in parts]
            yield from read_files(files, topics, start_ms, stop_ms, stack)

    def close(self) -> None:
        if not self._closed:
            self._closed = True
            self._active.close()
            self.journal.close()
            self._locked.close()


def _path_of(whole: Path, share: Share) -> Path:
    """Return the file of a share; `whole` is that of a sink that shares with nobody."""
    if share.of == 1:
        return whole
    by = "" if share.by == "source" else f"-by-{share.by}"
    return whole.with_name(f"{whole.stem}-{share.number}of{share.of}{by}{whole.suffix}")


def _share_of(path: Path, whole: Path) -> Share | None:
    """Return the share whose file this is, if it is one beside `whole`."""
    if path == whole:
        return WHOLE
    found = re.fullmatch(r"-(\d{1,9})of(\d{1,9})(?:-by-(topic))?", path.stem[len(whole.stem) :])
    return Share(int(found[1]), max(int(found[2]), 1), found[3] or "source") if found else None
