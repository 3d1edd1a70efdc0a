"""The one place where faults of the integrations' own code end, so that the application never sees them.

No lock: this runs in the application's threads, signal handlers and finalizers, before and after forks.
"""

from __future__ import annotations

import contextlib
import itertools
import logging
import time

__all__ = ["Guard", "guard"]

EVERY_S = 60.0


class Guard:
    """Counts what was caught or left out, by reason, and logs of each reason at most once a minute.

    A reason is one of a few known words: the memory taken grows with their number.
    """

    def __init__(self) -> None:
        self._turns: dict[str, itertools.count[int]] = {}
        self._quiet_until: dict[str, float] = {}

    def count(self, reason: str) -> None:
        """Add one."""
        turns = self._turns.get(reason)
        next(self._turns.setdefault(reason, itertools.count()) if turns is None else turns)

    def caught(self, reason: str, log: logging.Logger, message: str) -> None:
        """Count the exception that is being handled, and log it with its stack, unless one was within the minute."""
        self.count(reason)
        now = time.monotonic()
        if now >= self._quiet_until.get(reason, 0.0):
            self._quiet_until[reason] = now + EVERY_S
            with contextlib.suppress(Exception):  # the application's handlers and filters
                log.exception("%s; at most one such line a minute", message)

    def counts(self) -> dict[str, int]:
        """Return how many there were of each reason."""
        # The representation, count(3), is the one way to read a count without taking a turn of it.
        return {reason: int(repr(turns)[6:-1]) for reason, turns in sorted(self._turns.items())}


guard = Guard()
