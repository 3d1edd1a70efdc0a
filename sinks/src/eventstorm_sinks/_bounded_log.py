"""Logging at a bounded rate: what arrives from sockets may be wrong a million times a second."""

from __future__ import annotations

import logging
import threading
import time

__all__ = ["BoundedLog"]


class BoundedLog:
    """Logs at most one line per reason and minute, and tells how many it left out. Safe from any thread."""

    def __init__(self, log: logging.Logger, every_s: float = 60.0) -> None:
        self._log = log
        self._every_s = every_s
        self._lines: dict[str, tuple[float, int]] = {}
        self._lock = threading.Lock()

    def warning(self, reason: str, message: str, *arguments: object) -> None:
        """Log ``message % arguments`` unless something was logged for the same `reason` within the minute.

        `reason` is one of a few known words: the memory taken grows with their number.
        """
        now = time.monotonic()
        with self._lock:
            last, left_out = self._lines.get(reason, (float("-inf"), 0))
            quiet = now - last < self._every_s
            self._lines[reason] = (last, left_out + 1) if quiet else (now, 0)
        if quiet:
            return
        more = f" ({left_out} more like it in between)" if left_out else ""
        self._log.warning(message + "%s", *arguments, more)
