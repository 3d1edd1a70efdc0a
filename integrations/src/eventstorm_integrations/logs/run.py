"""What ``eventstorm logs`` does: files to streams, streams to a source, and positions to the disk once all is sent."""

from __future__ import annotations

import glob
import logging
import math
import os
import select
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from threading import Event as Flag
from typing import Protocol, runtime_checkable

from eventstorm.errors import StartError
from eventstorm_integrations.logs.event import Parser
from eventstorm_integrations.logs.follow import FollowedPath
from eventstorm_integrations.logs.outlet import Outlet
from eventstorm_integrations.logs.positions import Saved
from eventstorm_integrations.logs.rotated import Position, original
from eventstorm_integrations.logs.settings import LogsSettings
from eventstorm_integrations.logs.stream import Stream
from eventstorm_integrations.logs.watch import Watch

__all__ = ["Follower", "Input", "MakeParser"]

log = logging.getLogger(__name__)

MakeParser = Callable[[LogsSettings], Parser]

# How long the loop sleeps when nothing came. A look at a file at rest is one system call.
_SHORTEST_S, _LONGEST_S, _LONGEST_WATCHED_S = 0.02, 0.5, 1.0
_GLOB_S = 2.0
# Bad lines, overdue events and positions are seen to so often; positions more rarely if they take long.
_TICK_S = 1.0
_SAVE_SHARE = 0.05


class Input(Protocol):
    """Where lines come from that is no file."""

    name: str
    ended: bool
    """Whether nothing will come any more."""

    def fileno(self) -> int:
        """Return what can be waited for."""
        ...

    def read(self) -> list[str]:
        """Return the lines that are there; never waits."""
        ...

    def too_long(self) -> list[str]:
        """Return how the lines begin that were too long, since this was last asked."""
        ...

    def close(self) -> None:
        """Let go of it."""
        ...


@runtime_checkable
class Resumed(Input, Protocol):
    """An input of which a later run reads what came meanwhile."""

    cursor: str
    """Where it is read to."""

    def resume(self, cursor: str) -> None:
        """Go on where an earlier run was; called before the first `read`."""
        ...


@dataclass(slots=True)
class _Kept:
    """Where an input is read to, and what of it is known on the disk."""

    input: Resumed
    stream: Stream
    saved: Saved
    known: tuple[str, int] = ("", 0)

    def now(self) -> tuple[str, int]:
        return self.input.cursor, self.stream.events

    def save(self) -> None:
        self.saved.save(None, {"cursor": self.input.cursor, "parser": self.stream.save()})
        self.known = self.now()


@dataclass(slots=True)
class _Followed:
    """A file, where its lines go, and what of it is known on the disk."""

    file: FollowedPath
    stream: Stream
    saved: Saved
    kept: tuple[Position | None, int]
    at_rest: bool = False


class Follower:
    """Follows files until it is stopped.

    Args:
        name: the parser's.
        make: makes a parser for a file.
        files: names or patterns of files, each with the settings of its parser.
        outlet: takes the events.
        folder: where positions are kept.
        from_start: whether files that no earlier run has read are read from their begin.
        inputs: what else lines come from, each with the settings of its parser.
    """

    def __init__(
        self,
        name: str,
        make: MakeParser,
        files: Mapping[str, LogsSettings],
        outlet: Outlet,
        folder: Path,
        *,
        from_start: bool,
        inputs: Mapping[Input, LogsSettings] | None = None,
    ) -> None:
        self._name = name
        self._make = make
        self._files = files
        self._outlet = outlet
        self._folder = folder
        self._followed: dict[str, _Followed] = {}
        self._inputs = {
            each: Stream(each.name, make(settings), outlet.sends, settings) for each, settings in (inputs or {}).items()
        }
        self._watch = Watch.open() if files else None
        self._kept = [self._resume(each) for each in self._inputs if isinstance(each, Resumed)]
        self._glob_at_s = self._tick_at_s = self._save_at_s = 0.0
        self._unsaved = False
        self._left_out: dict[str, str] = {}
        for path, settings in self._new():
            self._follow(path, settings, from_start=from_start)

    @property
    def paths(self) -> list[str]:
        """The files that are followed by now."""
        return list(self._followed)

    def run(self, stop: Flag) -> None:
        """Follow them until `stop` is set, or all inputs have ended and there are no files, and keep the positions.

        Lines whose events could not be sent by then are read again by the next run.
        """
        sleep_s, woken = _SHORTEST_S, False
        while not stop.is_set() and (self._files or not all(each.ended for each in self._inputs)):
            now_s = time.monotonic()
            if now_s >= self._glob_at_s:
                self._glob_at_s = now_s + _GLOB_S
                self._find()
            busy = self._read(stop, now_s)
            if self._watch is not None:
                files = [(path, each.file.inode) for path, each in self._followed.items()]
                if self._watch.look_at(files):
                    continue  # what was written before they were watched is seen by looking again
            if now_s >= self._tick_at_s:
                self._tick_at_s = now_s + _TICK_S
                self._tick(now_s)
            longest_s = _LONGEST_S if self._watch is None else _LONGEST_WATCHED_S
            sleep_s = _SHORTEST_S if busy or woken else min(sleep_s * 1.5, longest_s)
            woken = self._wait(stop, sleep_s, watching=not busy and not woken)
        for input, stream in self._inputs.items():
            if input.ended:
                stream.expire(math.inf)
        for stream in self._streams():
            stream.tell(time.time(), all=True)
        if self._outlet.drain(1.0):
            self._save()

    def _wait(self, stop: Flag, sleep_s: float, *, watching: bool) -> bool:
        """Wait for so long, or until there is something to read; tell whether a file has changed.

        While lines come in, files are not watched: more of them at once is less work.
        """
        waited: list[Input | Watch] = [each for each in self._inputs if not each.ended]
        if watching and self._watch is not None:
            waited.append(self._watch)
        if not waited:
            stop.wait(sleep_s)
            return False
        ready, _, _ = select.select(waited, [], [], sleep_s)
        if self._watch is None or self._watch not in ready:
            return False
        self._watch.clear()
        return True

    def close(self) -> None:
        """Close the files and the other inputs."""
        if self._watch is not None:
            self._watch.close()
        for input in self._inputs:
            input.close()
        for kept in self._kept:
            kept.saved.close()
        for each in self._followed.values():
            each.file.close()
            each.saved.close()

    def _resume(self, input: Resumed) -> _Kept:
        kept = _Kept(input, self._inputs[input], Saved(self._folder, self._name, input.name))
        if cursor := kept.saved.state.get("cursor"):
            input.resume(cursor)
            kept.stream.restore(kept.saved.state["parser"])
        return kept

    def _new(self) -> Iterator[tuple[str, LogsSettings]]:
        """Yield what is there of the names and patterns and is not followed yet."""
        found = {path: settings for pattern, settings in self._files.items() for path in _matches(pattern)}
        for path in found.keys() - self._followed.keys():
            # A rotated file is read as what it was before, and one with two names once.
            if original(path) not in found and not any(_is_same(path, each) for each in self._followed):
                yield path, found[path]

    def _follow(self, path: str, settings: LogsSettings, *, from_start: bool) -> None:
        saved = Saved(self._folder, self._name, path)
        stream = Stream(path, self._make(settings), self._outlet.sends, settings)
        stream.restore(saved.state)
        file = FollowedPath(path, settings.max_line_bytes, saved.position, from_start=from_start)
        self._followed[path] = _Followed(file, stream, saved, (saved.position, 0))

    def _find(self) -> None:
        """Begin to follow what has come since the start; what cannot be, for now, must not end what is followed."""
        for path, settings in self._new():
            try:
                self._follow(path, settings, from_start=True)
                self._left_out.pop(path, None)
            except StartError as error:
                if self._left_out.get(path) != str(error):
                    log.warning("%s is not followed for now: %s", path, error)
                    self._left_out[path] = str(error)

    def _read(self, stop: Flag, now_s: float) -> bool:
        busy = False
        for each in self._followed.values():
            each.at_rest = True
            for block in each.file.poll(now_s):
                each.at_rest, busy = False, True
                self._outlet.feed(each.stream, block.lines, block.size_bytes, block.modified_s)
                each.stream.too_long(block.too_long)
                if stop.is_set():
                    return True
        for input, stream in self._inputs.items():
            if lines := input.read():
                self._outlet.feed(stream, lines, sum(map(len, lines)), time.time())
                busy = True
            stream.too_long(input.too_long())
        return busy

    def _streams(self) -> Iterator[Stream]:
        yield from (each.stream for each in self._followed.values())
        yield from self._inputs.values()

    def _tick(self, now_s: float) -> None:
        wall_s = time.time()
        for each in self._followed.values():
            if each.at_rest:  # else the clock of what is read is not this one
                each.stream.expire(wall_s)
            each.stream.tell(wall_s)
        for stream in self._inputs.values():
            stream.expire(wall_s)
            stream.tell(wall_s)
        changed = any(True for _ in self._changed()) or any(each.now() != each.known for each in self._kept)
        if now_s >= self._save_at_s and changed and self._outlet.drain():
            self._save()
            self._save_at_s = time.monotonic() + (time.monotonic() - now_s) / _SAVE_SHARE

    def _changed(self) -> Iterator[tuple[_Followed, Position]]:
        """Yield what is not on the disk as it is now."""
        for each in self._followed.values():
            position = each.file.position
            if (position, each.stream.events) != each.kept:
                yield each, position

    def _save(self) -> None:
        """Keep where all files were read to, as far as the disk has room; call it when all events are sent."""
        problem: OSError | None = None
        for each, position in self._changed():
            try:
                each.saved.save(position, each.stream.save())
                each.kept = (position, each.stream.events)
            except OSError as error:
                problem = error
        for kept in self._kept:
            try:
                if kept.now() != kept.known:
                    kept.save()
            except OSError as error:
                problem = error
        if problem is not None and not self._unsaved:
            log.warning("where files are read to cannot be kept in %s for now: %s", self._folder, problem)
        elif problem is None and self._unsaved:
            log.warning("where files are read to is kept in %s again", self._folder)
        self._unsaved = problem is not None


def _matches(pattern: str) -> list[str]:
    if not glob.has_magic(pattern):
        return [os.path.abspath(pattern)]
    return sorted(os.path.abspath(path) for path in glob.glob(pattern, recursive=True) if os.path.isfile(path))


def _is_same(path: str, other: str) -> bool:
    try:
        return os.path.samefile(path, other)
    except OSError:
        return False
