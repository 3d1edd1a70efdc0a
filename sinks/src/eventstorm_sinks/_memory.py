"""Memory that is free in this process: glibc keeps it for later unless it is told not to."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from functools import partial

__all__ = ["give_back"]

_trim: Callable[[], int] | None = None
# glibc's alone, https://man7.org/linux/man-pages/man3/malloc_trim.3.html: elsewhere free memory goes back by itself.
with contextlib.suppress(AttributeError, ImportError, OSError, TypeError):
    import ctypes  # which a Python that was built without libffi has not

    _trim = partial(ctypes.CDLL(None).malloc_trim, ctypes.c_size_t(0))


def give_back() -> None:
    """Give free memory back to the system, where that has to be asked for. Takes milliseconds; safe from any thread."""
    if _trim is not None:
        _trim()
