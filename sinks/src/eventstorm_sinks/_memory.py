"""Memory that is free in this process: glibc keeps it for later unless it is told not to."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from functools import partial

__all__ = ["Backlog"]

# What a backlog of this size took is given back when it is gone, but not more often than this.
BACKLOG_BYTES, GIVE_BACK_S = 2**20, 10.0

_trim: Callable[[], int] | None = None
# glibc's alone, https://man7.org/linux/man-pages/man3/malloc_trim.3.html: elsewhere free memory goes back by itself.
with contextlib.suppress(AttributeError, ImportError, OSError, TypeError):
    import ctypes  # which a Python that was built without libffi has not

    _trim = partial(ctypes.CDLL(None).malloc_trim, ctypes.c_size_t(0))


class Backlog:
    """What has piled up, so that its memory is given back when it is gone. For one thread."""

    def __init__(self) -> None:
        self._largest_bytes = 0
        self._gave_back_s = float("-inf")

    def note(self, waiting_bytes: int) -> None:
        """Note how much waits now."""
        self._largest_bytes = max(self._largest_bytes, waiting_bytes)

    def give_back(self, waiting_bytes: int) -> None:
        """Give free memory back to the system where little is left of much, which takes milliseconds."""
        now_s = time.monotonic()
        is_gone = waiting_bytes < BACKLOG_BYTES <= self._largest_bytes
        if _trim is not None and is_gone and now_s - self._gave_back_s >= GIVE_BACK_S:
            self._largest_bytes, self._gave_back_s = 0, now_s
            _trim()
