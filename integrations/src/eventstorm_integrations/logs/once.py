"""What ``eventstorm logs --once`` does: read files to their end, compressed ones too."""

from __future__ import annotations

import contextlib
import math
import os
import select
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from threading import Event as Flag

from eventstorm.errors import EventstormError, StartError
from eventstorm_integrations.logs.compressed import LogFile
from eventstorm_integrations.logs.lines import LineSplitter
from eventstorm_integrations.logs.outlet import Outlet
from eventstorm_integrations.logs.rotated import series
from eventstorm_integrations.logs.run import MakeParser
from eventstorm_integrations.logs.settings import LogsSettings
from eventstorm_integrations.logs.stream import Stream

__all__ = ["read_once"]

_BLOCK_BYTES = 256 * 1024
# How often to look whether it is to end while a pipe gives nothing.
_LOOK_S = 0.2


def read_once(make: MakeParser, files: Mapping[str, LogsSettings], outlet: Outlet, stop: Flag) -> list[Stream]:
    """Read all files from their begin to their end; return what became of them.

    Those that are one log, rotated, are read one after the other by one parser, the oldest first.

    Raises:
        StartError: one of them is not there, or cannot be read at all.
        EventstormError: one of them is damaged. What was before the damage was emitted, and so were the other files.
    """
    streams: list[Stream] = []
    damaged: list[str] = []
    sizes = {path: _size(path) for path in files}
    with _progress(sum(sizes.values())) as advance:
        for paths in series(files):
            settings = files[paths[-1]]
            stream = Stream(paths[-1], make(settings), outlet.sends, settings)
            streams.append(stream)
            for path in paths:
                lines = stream.lines
                try:
                    _read(path, settings, stream, outlet, stop, advance)
                except BrokenPipeError:  # of who reads what is printed
                    raise
                except OSError as error:
                    damaged.append(f"{path}: {error}; {stream.lines - lines} lines before that were read")
                if stop.is_set():
                    break
            stream.expire(math.inf)
            stream.tell(time.time(), all=True)
    if damaged:
        raise EventstormError("; ".join(damaged))
    return streams


def _size(path: str) -> int:
    try:
        with LogFile(path) as file:
            return file.status().st_size
    except OSError as error:
        raise StartError(f"{path}: {error.strerror}; name files that are there and can be read") from None


def _read(
    path: str, settings: LogsSettings, stream: Stream, outlet: Outlet, stop: Flag, advance: Callable[[str, int], None]
) -> None:
    splitter = LineSplitter(settings.max_line_bytes)
    with LogFile(path) as file:
        modified_s, done = file.status().st_mtime, 0
        while data := _next(file, stop):
            outlet.feed(stream, splitter.feed(data), len(data), modified_s)
            stream.too_long(splitter.too_long())
            advance(path, file.done_bytes() - done)
            done = file.done_bytes()
    if data is not None:  # else half a line would be taken for one
        stream.feed(splitter.rest(), modified_s)


def _next(file: LogFile, stop: Flag) -> bytes | None:
    """Return some bytes, none at the end; None once `stop` is set."""
    while not stop.is_set():
        if select.select([file], [], [], _LOOK_S)[0]:
            return file.read(_BLOCK_BYTES)
    return None


@contextlib.contextmanager
def _progress(total_bytes: int) -> Iterator[Callable[[str, int], None]]:
    """Show how far it is, if somebody is there to see it."""
    if not sys.stderr.isatty():
        yield lambda path, size_bytes: None
        return
    try:
        from rich.console import Console
        from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn
    except ImportError:
        yield lambda path, size_bytes: None
        return
    columns = TextColumn("{task.description}", markup=False), BarColumn(), DownloadColumn(), TimeRemainingColumn()
    # Else what is printed to standard output would pass through it, and take ten times as long.
    quiet = Progress(
        *columns, console=Console(stderr=True), transient=True, redirect_stdout=False, redirect_stderr=False
    )
    with quiet as progress:
        task = progress.add_task("", total=total_bytes)

        def advance(path: str, size_bytes: int) -> None:
            progress.update(task, advance=size_bytes, description=os.path.basename(path))

        yield advance
