"""Reading files of JSON lines, those that a sink is writing too: what its journal says is committed."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import BinaryIO

import msgspec

from eventstorm.errors import EventstormError, StartError
from eventstorm_sinks.batch import Book, StoredEvent
from eventstorm_sinks.stores._journal import read_journal
from eventstorm_sinks.stores._lines import Head, decode_head, decode_line
from eventstorm_sinks.stores._sort import Keyed, sort_lines
from eventstorm_sinks.stores.where import Condition, chosen

__all__ = ["JsonlReader", "read_files", "segments_of"]

log = logging.getLogger(__name__)

# A sink that begins a new file while these are opened does so rarely.
_MOST_TRIES = 10


class JsonlReader:
    """Reads a file, its segments and its books; writes and locks nothing."""

    def __init__(self, location: str) -> None:
        """Look whether the file is there.

        Raises:
            StartError: it is not.
        """
        self._path = Path(location)
        if location == "-":
            raise StartError("jsonl:-: standard output cannot be read back; name a file")
        if not self._path.is_file():
            raise StartError(f"jsonl:{location}: there is no such file")

    def books(self) -> list[Book]:
        """Return the books last written."""
        return read_journal(_journal_of(self._path))[1]

    def read(
        self,
        topics: Sequence[str] = (),
        start_ms: int | None = None,
        stop_ms: int | None = None,
        where: Sequence[Condition] = (),
    ) -> Iterator[StoredEvent]:
        """Yield events in the order of time: sorted in 32 MiB of memory, with temporary files for what is beyond."""
        with ExitStack() as stack:
            yield from chosen(read_files(self._open(stack), frozenset(topics), start_ms, stop_ms, stack), where)

    def _open(self, stack: ExitStack) -> list[tuple[BinaryIO, int | None]]:
        for _ in range(_MOST_TRIES):
            segments = segments_of(self._path)
            with ExitStack() as opened:
                try:
                    files = [opened.enter_context(path.open("rb")) for path in (*segments, self._path)]
                    size, _ = read_journal(_journal_of(self._path))
                except FileNotFoundError:
                    continue
                if segments_of(self._path) == segments:
                    stack.enter_context(opened.pop_all())
                    return [*((file, None) for file in files[:-1]), (files[-1], size)]
        raise EventstormError(f"jsonl:{self._path}: its sink begins new files too fast for it to be read")

    def close(self) -> None:
        """Do nothing: files are open while they are read."""


def segments_of(path: Path) -> list[Path]:
    """Return the files that were the active one before, the oldest first."""
    found = path.parent.glob(path.name.replace("[", "[[]") + ".[0-9]*")
    return sorted((each for each in found if each.suffix[1:].isdecimal()), key=lambda each: int(each.suffix[1:]))


def read_files(
    files: Iterable[tuple[BinaryIO, int | None]],
    topics: frozenset[str],
    start_ms: int | None,
    stop_ms: int | None,
    stack: ExitStack,
) -> Iterator[StoredEvent]:
    """Yield the events of some files in the order of time, then identity.

    Of each file only so many bytes count, if any are given. `stack` removes the temporary files.
    """
    foreign: list[int] = []
    chosen = (
        Keyed(head.ts_ms, head.id, line)
        for file, size in files
        for head, line in _lines(file, size, foreign)
        if (not topics or head.topic in topics)
        and (start_ms is None or head.ts_ms >= start_ms)
        and (stop_ms is None or head.ts_ms < stop_ms)
    )
    strange = 0
    for keyed in sort_lines(chosen, stack):
        try:
            event = decode_line(keyed.line)
        except Exception:  # what somebody else put there may be wrong in any way
            strange += 1
            continue
        yield event
    strange += sum(foreign)
    if strange:
        log.warning("left out %d line%s that are no events", strange, "" if strange == 1 else "s")


def _lines(file: BinaryIO, size: int | None, foreign: list[int]) -> Iterator[tuple[Head, bytes]]:
    """Yield the events' lines of a file, of its first `size` bytes.

    Others, that somebody put there, are left out; how many these were is added to `foreign`.
    """
    others = 0
    for line in file:
        if size is not None:
            size -= len(line)
            if size < 0:
                break
        try:
            head = decode_head(line)
            head.ts_ms  # noqa: B018  # it may be no date
        except (msgspec.DecodeError, ValueError, KeyError, TypeError, OverflowError):
            others += bool(line.strip())
            continue
        yield head, line
    foreign.append(others)


def _journal_of(path: Path) -> Path:
    return path.with_name(path.name + ".books")
