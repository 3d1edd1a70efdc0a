"""Rates: what the kernel counts since boot, as growth a second between two looks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

__all__ = ["Rates"]


class Rates:
    """Turns counters of things that come and go (devices, interfaces) into rates. Not safe for several threads."""

    def __init__(self) -> None:
        self._before: dict[str, Sequence[float]] = {}
        self._before_s = 0.0

    def update(self, counters: Mapping[str, Sequence[float]], now_s: float) -> dict[str, list[float]]:
        """Take the counters as they are now, by name, and return how much each grew a second since the last call.

        Left out are those that were not there before, and those of which a counter went back: it wrapped, or the thing
        was replaced by another of its name, and nothing can be said about the time between.
        """
        elapsed_s = now_s - self._before_s
        rates = {}
        for name, after in counters.items():
            before = self._before.get(name)
            if before is not None and elapsed_s > 0 and all(a >= b for a, b in zip(after, before, strict=True)):
                rates[name] = [(a - b) / elapsed_s for a, b in zip(after, before, strict=True)]
        self._before, self._before_s = dict(counters), now_s
        return rates
