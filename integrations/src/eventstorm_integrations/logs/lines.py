"""Bytes become lines of text, whatever the bytes are, and however they come in pieces."""

from __future__ import annotations

import codecs

__all__ = ["LineSplitter"]

# Of a line that is too long, so much is kept to show.
_SHOWN_BYTES = 1000


class LineSplitter:
    """Cuts one stream of bytes into lines, in bounded memory.

    Args:
        max_line_bytes: a longer line is not returned, but counted.
    """

    def __init__(self, max_line_bytes: int) -> None:
        self._most = max_line_bytes
        self._rest = b""
        self._skipping = self._begun = False
        self.pending_bytes = 0
        """How many bytes have come since the last line's end."""
        self._too_long: list[str] = []

    def feed(self, chunk: bytes) -> list[str]:
        r"""Return the lines that end in this piece, without their ends.

        Bytes that are not UTF-8 are in them as ``\xHH``. The mark that Windows puts before UTF-8 is left out, and so
        are bytes 0 at a line's begin: a file has them where it was truncated under a program that goes on writing
        where it was.
        """
        end = chunk.rfind(b"\n")
        self.pending_bytes = len(chunk) - end - 1 + (self.pending_bytes if end < 0 else 0)
        if self._skipping:
            skipped = chunk.find(b"\n") + 1
            if not skipped:
                return []
            chunk, end, self._skipping = chunk[skipped:], end - skipped, False
        whole = self._lines(self._rest + chunk[:end]) if end >= 0 else []
        self._rest = (chunk[end + 1 :] if end >= 0 else self._rest + chunk).lstrip(b"\0")
        if len(self._rest) > self._most:
            self._too_long.append(_text(self._rest[:_SHOWN_BYTES]))
            self._rest, self._skipping = b"", True
        return whole

    def rest(self) -> list[str]:
        """Return, as a line, what has come since the last line's end, and begin anew."""
        rest, self._rest = self._rest, b""
        self._skipping, self.pending_bytes = False, 0
        return self._lines(rest) if rest else []

    def too_long(self) -> list[str]:
        """Return how the lines begin that were too long, since this was last asked."""
        found, self._too_long = self._too_long, []
        return found

    def _lines(self, data: bytes) -> list[str]:
        if not self._begun:
            data, self._begun = data.removeprefix(codecs.BOM_UTF8), True
        lines = _text(data).split("\n")
        if b"\r" in data:
            lines = [line.removesuffix("\r") for line in lines]
        if b"\0" in data:
            lines = [line.lstrip("\0") for line in lines]
        if len(data) > self._most and max(map(len, lines)) > self._most:
            self._too_long += [line[:_SHOWN_BYTES] for line in lines if len(line) > self._most]
            lines = [line for line in lines if len(line) <= self._most]
        return lines


def _text(data: bytes) -> str:
    return data.decode("utf-8", "backslashreplace")
