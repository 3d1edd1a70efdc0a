"""Lines from standard input: of ``journalctl -o json --follow``, say, or of whatever else writes into a pipe."""

from __future__ import annotations

import os
import select
import sys

from eventstorm_integrations.logs.lines import LineSplitter

__all__ = ["StandardInput"]

_BLOCK_BYTES = 64 * 1024
_MOST_BLOCKS = 16


class StandardInput:
    """What comes in, until it ends.

    Args:
        max_line_bytes: see `LineSplitter`.
    """

    def __init__(self, max_line_bytes: int) -> None:
        self.name = "standard input"
        self.ended = False
        self._splitter = LineSplitter(max_line_bytes)

    def fileno(self) -> int:
        """Return what can be waited for."""
        return sys.stdin.fileno()

    def read(self) -> list[str]:
        """Return the lines that are there; the last one needs no end."""
        lines: list[str] = []
        for _ in range(_MOST_BLOCKS):
            if self.ended or not select.select([self], [], [], 0)[0]:
                break
            data = os.read(self.fileno(), _BLOCK_BYTES)
            self.ended = not data
            lines += self._splitter.feed(data) if data else self._splitter.rest()
        return lines

    def too_long(self) -> list[str]:
        """Return how the lines begin that were too long, since this was last asked."""
        return self._splitter.too_long()

    def close(self) -> None:
        """Leave it to who opened it."""
