"""Memory that is free in this process: glibc keeps it for later unless it is told not to."""

from __future__ import annotations

import ctypes

__all__ = ["give_back"]

try:
    # https://man7.org/linux/man-pages/man3/malloc_trim.3.html: glibc's alone; musl and macOS give back by themselves.
    _trim = ctypes.CDLL(None).malloc_trim
    _trim.argtypes, _trim.restype = [ctypes.c_size_t], ctypes.c_int
except (AttributeError, OSError, TypeError):
    _trim = None


def give_back() -> None:
    """Give free memory back to the system, where that has to be asked for. Takes milliseconds; safe from any thread."""
    if _trim is not None:
        _trim(0)
