"""The last minutes as absolute values: one per second and line, so that sending one twice changes nothing."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal, NamedTuple

__all__ = ["Bins", "LineKey"]


class LineKey(NamedTuple):
    """One line of a panel: which of its fields, and the value that the events were split by."""

    label: str
    by: str


class _Bin:
    __slots__ = ("count", "tick", "total")

    def __init__(self) -> None:
        self.total = 0.0
        self.count = 0
        self.tick = 0


class Bins:
    """The bins of one panel. Not safe from several threads at once.

    Args:
        aggregate: what a bin's value is.
        max_lines: as many lines as are kept; what belongs to further ones is refused.
    """

    def __init__(self, aggregate: Literal["avg", "count"], max_lines: int) -> None:
        self._aggregate = aggregate
        self._max_lines = max_lines
        self._lines: dict[LineKey, dict[int, _Bin]] = {}

    def add(self, key: LineKey, second: int, tick: int, *, total: float = 0.0, count: int = 1) -> bool:
        """Add to a bin, and note that it changed in `tick`; False when there are too many lines."""
        line = self._lines.get(key)
        if line is None:
            if len(self._lines) >= self._max_lines:
                return False
            line = self._lines[key] = {}
        found = line.get(second)
        if found is None:
            found = line[second] = _Bin()
        found.total += total
        found.count += count
        found.tick = tick
        return True

    def splits(self) -> set[str]:
        """Return the values that events were split by, of all lines."""
        return {key.by for key in self._lines}

    def forget_before(self, second: int) -> None:
        """Drop older bins, and lines that have none left."""
        for key, line in list(self._lines.items()):
            for old in [each for each in line if each < second]:
                del line[old]
            if not line:
                del self._lines[key]

    def changed_since(self, tick: int, first_second: int) -> Iterator[tuple[LineKey, list[tuple[int, float]]]]:
        """Yield the bins that changed after `tick` and lie at `first_second` or later, in order of time."""
        counting = self._aggregate == "count"
        for key, line in self._lines.items():
            changed = [
                (second, each.count if counting else each.total / each.count)
                for second, each in line.items()
                if each.tick > tick and second >= first_second
            ]
            if changed:
                yield key, sorted(changed)
