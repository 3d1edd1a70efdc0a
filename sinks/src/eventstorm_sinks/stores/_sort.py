"""Sorting lines of any total size by time, in bounded memory."""

from __future__ import annotations

import heapq
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from typing import BinaryIO, NamedTuple

from eventstorm_sinks.stores._lines import decode_head

__all__ = ["Keyed", "sort_lines"]

RUN_BYTES = 32 * 2**20
# Runs are files, of which a process may have open some hundreds: so many are merged into one.
MAX_RUNS = 64


class Keyed(NamedTuple):
    """A line behind what it is sorted by."""

    ts_ms: int
    id: str
    line: bytes


def sort_lines(lines: Iterable[Keyed], stack: ExitStack, run_bytes: int = RUN_BYTES) -> Iterator[Keyed]:
    """Sort by time, then identity: `run_bytes` of lines at a time in memory, the rest in temporary files.

    `stack` closes and removes the files.
    """
    runs: list[BinaryIO] = []
    run: list[Keyed] = []
    size = 0
    for keyed in lines:
        run.append(keyed)
        size += len(keyed.line)
        if size >= run_bytes:
            runs.append(_spill(sorted(run), stack))
            run, size = [], 0
            if len(runs) >= MAX_RUNS:
                merged = _spill(heapq.merge(*map(_unspill, runs)), stack)
                for each in runs:
                    each.close()
                runs = [merged]
    run.sort()
    return heapq.merge(*map(_unspill, runs), run)


def _spill(run: Iterable[Keyed], stack: ExitStack) -> BinaryIO:
    file: BinaryIO = stack.enter_context(tempfile.TemporaryFile())  # noqa: SIM115  # the stack closes it
    for keyed in run:
        file.write(keyed.line)
    file.seek(0)
    return file


def _unspill(file: BinaryIO) -> Iterator[Keyed]:
    for line in file:
        head = decode_head(line)
        yield Keyed(head.ts_ms, head.id, line)
