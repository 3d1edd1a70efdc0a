"""systemd's journal, from ``journalctl``, which keeps to the place where the last run stopped."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import subprocess
import time

from eventstorm.errors import StartError
from eventstorm_integrations.logs.lines import LineSplitter

__all__ = ["SYSTEM", "Journal"]

log = logging.getLogger(__name__)

SYSTEM = "system"
"""Stands for this system's own journal."""

# What parsers look at; the cursor and the time of arrival are always there.
_FIELDS = "MESSAGE,SYSLOG_IDENTIFIER,_COMM,SYSLOG_PID,_PID,_HOSTNAME,_SOURCE_REALTIME_TIMESTAMP"
_BLOCK_BYTES = 64 * 1024
_MOST_BLOCKS = 16
_SHORTEST_PAUSE_S, _LONGEST_PAUSE_S = 1.0, 60.0
_LONGEST_LOOK_S = 30.0


class Journal:
    """Entries as ``journalctl -o json`` writes them, from the one behind a cursor on.

    A ``journalctl`` that ends is started anew where it was.

    Args:
        where: `SYSTEM`, or the folder of a journal.
        max_line_bytes: see `LineSplitter`.
        from_start: where to begin without a cursor: with the oldest entry, or with the next one.

    Raises:
        StartError: there is no ``journalctl``, or it cannot read the journal.
    """

    def __init__(self, where: str, max_line_bytes: int, *, from_start: bool) -> None:
        self.name = "the journal" if where == SYSTEM else f"the journal in {where}"
        self.ended = False
        self.cursor = ""
        """That of the last entry that was read; empty before the first."""
        self._command = ["journalctl", "--output=json", f"--output-fields={_FIELDS}", "--all", "--quiet", "--no-pager"]
        if where != SYSTEM:
            self._command.append(f"--directory={where}")
        self._max_line_bytes = max_line_bytes
        self._splitter = LineSplitter(max_line_bytes)
        self._process: subprocess.Popen[bytes] | None = None
        self._start_at_s, self._pause_s = 0.0, _SHORTEST_PAUSE_S
        # Ours, so that there is something to wait for also while no journalctl runs.
        self._read_fd, self._write_fd = os.pipe()
        os.set_blocking(self._read_fd, False)
        try:
            last = self._last()
        except StartError:
            self.close()
            raise
        if not from_start:
            self.cursor = last

    def resume(self, cursor: str) -> None:
        """Begin behind the entry of this cursor, which an earlier run read; call it before the first `read`."""
        self.cursor = cursor

    def fileno(self) -> int:
        """Return what can be waited for."""
        return self._read_fd

    def read(self) -> list[str]:
        """Return the entries that are there; never waits."""
        now_s = time.monotonic()
        # In this order: what it wrote before it ended is read.
        over = self._process is not None and self._process.poll() is not None
        lines: list[str] = []
        for _ in range(_MOST_BLOCKS):
            try:
                data = os.read(self._read_fd, _BLOCK_BYTES)
            except BlockingIOError:
                if over:
                    self._end(now_s)
                elif self._process is None and now_s >= self._start_at_s:
                    self._start()
                break
            lines += self._splitter.feed(data)
        if lines:
            self._pause_s = _SHORTEST_PAUSE_S
            self.cursor = _cursor_of(lines) or self.cursor
        return lines

    def too_long(self) -> list[str]:
        """Return how the lines begin that were too long, since this was last asked."""
        return self._splitter.too_long()

    def close(self) -> None:
        """End journalctl."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
        for fd in (self._read_fd, self._write_fd):
            with contextlib.suppress(OSError):
                os.close(fd)

    def _start(self) -> None:
        after = [f"--after-cursor={self.cursor}"] if self.cursor else []
        self._process = subprocess.Popen(
            [*self._command, "--follow", "--no-tail", *after],
            stdin=subprocess.DEVNULL,
            stdout=self._write_fd,
            start_new_session=True,  # Ctrl-C is for this program, which then ends it
        )

    def _end(self, now_s: float) -> None:
        if self._process is not None:
            log.warning("%s: journalctl ended with %d; it is started again", self.name, self._process.wait())
        self._process = None
        self._splitter = LineSplitter(self._max_line_bytes)  # half an entry is told whole the next time
        self._start_at_s = now_s + self._pause_s
        self._pause_s = min(2 * self._pause_s, _LONGEST_PAUSE_S)

    def _last(self) -> str:
        """Return the cursor of the newest entry, empty if there is none."""
        try:
            done = subprocess.run(
                [*self._command, "--lines=1"],
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=_LONGEST_LOOK_S,
                check=False,
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise StartError(f"{self.name} cannot be read: {error}; journalctl is part of systemd") from None
        if done.returncode:
            said = done.stderr.decode("utf-8", "replace").strip()
            raise StartError(f"{self.name} cannot be read: {said or f'journalctl ended with {done.returncode}'}")
        return _cursor_of(done.stdout.decode("utf-8", "replace").splitlines())


def _cursor_of(lines: list[str]) -> str:
    """Return the cursor of the last entry that has one."""
    for line in reversed(lines):
        with contextlib.suppress(ValueError, KeyError, TypeError, RecursionError):
            cursor = json.loads(line)["__CURSOR"]
            if isinstance(cursor, str):
                return cursor
    return ""
