"""Series put together here, event by event, for stores that cannot do it themselves: in memory that has a bound.

Percentiles are those of a logarithmic sketch (DDSketch, https://arxiv.org/abs/1908.10693): within 1 % of a value that
is really there.
"""

from __future__ import annotations

import math
import sys
from collections import Counter
from typing import Any

from eventstorm_sinks.stores import Series

__all__ = ["AGGREGATES", "MAX_DEPTH", "MAX_LINES", "NameCounter", "SeriesFold", "check_series", "line_name"]

AGGREGATES = ("count", "sum", "avg", "min", "max", "p50", "p95", "p99")
MAX_LINES, MAX_NAME = 50, 200
# As deep as BSON documents are nested at most.
MAX_DEPTH = 100
# With more names than these the rarest half is dropped, as often as need be: what has many events stays.
_MAX_NAMES = 20_000
_ACCURACY = 0.01
_GAMMA = math.log((1 + _ACCURACY) / (1 - _ACCURACY))
# From a bucket's upper bound to its middle, and the largest number; as exponents.
_HALF, _MOST_EXPONENT = math.log((1 + math.exp(_GAMMA)) / 2), math.log(sys.float_info.max)


def check_series(field: str | None, aggregate: str, start_s: int, step_s: int, by: str | None) -> None:
    """Check the arguments of `Reader.series`.

    Raises:
        ValueError: one of them makes no sense.
    """
    if aggregate not in AGGREGATES:
        raise ValueError(f"no aggregate {aggregate!r}; there are {', '.join(AGGREGATES)}")
    if field is None and aggregate != "count":
        raise ValueError(f"{aggregate} needs a field")
    if step_s < 1 or start_s % step_s:
        raise ValueError(f"a step of {step_s} s: it must be 1 or more, and start_s a multiple of it")
    for name, path in (("field", field), ("by", by)):
        if path is not None and (depth := path.count(".") + 1) > MAX_DEPTH:
            raise ValueError(f"{name}: {depth} names with dots in between; at most {MAX_DEPTH} are allowed")


def line_name(value: Any) -> str:
    """Return the name of the line that a value leads to."""
    if value is None or isinstance(value, (dict, list)):
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return str(value)[:MAX_NAME]


class NameCounter:
    """Counts the names that events are split by, and tells the commonest."""

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()

    def add(self, name: str) -> None:
        """Count one event."""
        self._counts[name] += 1
        if len(self._counts) > _MAX_NAMES:
            self._counts = Counter(dict(self._counts.most_common(_MAX_NAMES // 2)))

    def commonest(self) -> list[str]:
        """Return the names with the most events, as many as there may be lines."""
        ordered = sorted(self._counts.items(), key=lambda each: (-each[1], each[0]))
        return [name for name, _ in ordered[:MAX_LINES]]


class _Cell:
    """The values of one step of one line."""

    __slots__ = ("buckets", "count", "greatest", "least", "total")

    def __init__(self) -> None:
        self.count = 0
        self.total = 0.0
        self.least, self.greatest = math.inf, -math.inf
        self.buckets: Counter[tuple[int, int]] | None = None

    def add(self, value: float, *, sketch: bool) -> None:
        self.count += 1
        self.total += value
        self.least, self.greatest = min(self.least, value), max(self.greatest, value)
        if sketch:
            if self.buckets is None:
                self.buckets = Counter()
            # In the order of the values: by sign, then by magnitude, which counts backwards below zero.
            sign = (value > 0) - (value < 0)
            self.buckets[sign, sign * math.ceil(math.log(abs(value)) / _GAMMA) if sign else 0] += 1

    def result(self, aggregate: str) -> float | None:
        if aggregate == "count":
            return float(self.count)
        if not self.count:
            return None
        if aggregate == "sum":
            return self.total
        if aggregate == "avg":
            return self.total / self.count
        if aggregate in ("min", "max"):
            return self.least if aggregate == "min" else self.greatest
        return self._quantile(int(aggregate[1:]) / 100)

    def _quantile(self, share: float) -> float:
        assert self.buckets is not None
        rank, passed = share * (self.count - 1), 0
        for (sign, index), count in sorted(self.buckets.items()):
            passed += count
            if passed > rank:
                middle = sign * math.exp(min(sign * index * _GAMMA - _HALF, _MOST_EXPONENT))
                return min(max(middle, self.least), self.greatest)
        return self.greatest


class SeriesFold:
    """Aggregates values over steps of time.

    Args:
        aggregate: one of `AGGREGATES`.
        start_s: where the first step begins.
        step_s: the width of a step.
        names: the lines, the first first; events of other names are left out.
    """

    def __init__(self, aggregate: str, start_s: int, step_s: int, names: list[str]) -> None:
        self._aggregate, self._start_s, self._step_s = aggregate, start_s, step_s
        self._lines: dict[str, dict[int, _Cell]] = {name: {} for name in names}

    def add(self, name: str, ts_ms: int, value: float | None) -> None:
        """Add an event; without a value it only shows that there was one in this step."""
        line = self._lines.get(name)
        if line is None:
            return
        step = (ts_ms - self._start_s * 1000) // (self._step_s * 1000)
        cell = line.get(step)
        if cell is None:
            cell = line[step] = _Cell()
        if value is not None:
            cell.add(value, sketch=self._aggregate.startswith("p"))

    def series(self) -> list[Series]:
        """Return the lines that have events."""
        return [
            Series(
                name,
                [
                    (self._start_s + step * self._step_s, cell.result(self._aggregate))
                    for step, cell in sorted(line.items())
                ],
            )
            for name, line in self._lines.items()
            if line
        ]
