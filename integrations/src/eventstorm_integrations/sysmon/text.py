"""Names as the system has them, which are bytes, as text."""

from __future__ import annotations

import os

__all__ = ["printable"]


def printable(name: str) -> str:
    """Return a name or path as text: the bytes of one that is not UTF-8 become the replacement character."""
    return os.fsencode(name).decode("utf-8", "replace")
