"""A counter that any number of threads, signal handlers and finalizers may add to without a lock."""

from __future__ import annotations

import itertools

__all__ = ["Counter"]


class Counter:
    """Counts calls of `add`. Both methods are one call into C, which nothing can interrupt."""

    __slots__ = ("_turns", "add")

    def __init__(self) -> None:
        self._turns = itertools.count()
        self.add = self._turns.__next__

    def value(self) -> int:
        """Return how many times `add` was called."""
        # The representation, count(3), is the one way to read a count without taking a turn of it.
        return int(repr(self._turns)[6:-1])
