"""Numbers that a server may yet insert although they were removed. Pure; written down in the journal."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import bson

from eventstorm_sinks.batch import StreamKey
from eventstorm_sinks.stores.mongodb._envelope import stream_id

__all__ = ["Late", "Span", "runs", "uncovered"]

# Of 600 bytes at most, in a journal of 16 MB at most that also says what a write is about to insert.
_MOST_SPANS = 10_000


@dataclass(frozen=True, slots=True)
class Span:
    """Numbers of one stream, and the collections that events of theirs may lie in."""

    key: StreamKey
    topic: str
    first: int
    stop: int
    collections: tuple[str, ...]

    @classmethod
    def of(cls, said: Mapping[str, Any]) -> Span:
        """Read what `said` gave."""
        stream = said["stream"]
        key = StreamKey(stream[:12], int.from_bytes(stream[12:], "big"))
        first, stop = int(said["first"]), int(said["stop"])
        return cls(key, said.get("topic", ""), first, stop, tuple(said["collections"]))

    def said(self) -> dict[str, Any]:
        """Return it as a document."""
        return {
            "stream": stream_id(self.key),
            "topic": self.topic,
            "first": bson.Int64(self.first),
            "stop": bson.Int64(self.stop),
            "collections": list(self.collections),
        }

    def covers(self, other: Span) -> bool:
        """Tell whether all numbers of another are among these."""
        return self.key == other.key and self.first <= other.first and self.stop >= other.stop

    def without(self, numbers: Sequence[int]) -> list[Span]:
        """Return what is left of it without some numbers, which are in order."""
        left: list[Span] = []
        first = self.first
        for number in numbers[bisect_left(numbers, self.first) : bisect_left(numbers, self.stop)]:
            if number > first:
                left.append(replace(self, first=first, stop=number))
            first = number + 1
        return [*left, replace(self, first=first)] if first < self.stop else left


def runs(numbers: Sequence[int]) -> list[tuple[int, int]]:
    """Return the first of each run of numbers, which are in order, and the one after its last."""
    found: list[tuple[int, int]] = []
    for number in numbers:
        first = found.pop()[0] if found and found[-1][1] == number else number
        found.append((first, number + 1))
    return found


def uncovered(spans: Iterable[Span], others: Iterable[Span]) -> list[Span]:
    """Return those spans that none of the others, one for each stream, covers."""
    of = {other.key: other for other in others}
    return [span for span in spans if span.key not in of or not of[span.key].covers(span)]


class Late:
    """Spans, each until a time in seconds since 1970. Beyond what fits into a document the oldest are forgotten."""

    def __init__(self) -> None:
        # By their streams: there may be thousands, and each write asks for some.
        self._until_s: dict[StreamKey, dict[Span, float]] = {}
        self._count = 0

    def __bool__(self) -> bool:
        return bool(self._until_s)

    def add(self, spans: Iterable[Span], until_s: float) -> None:
        """Enter spans; those that are there already stay as they are."""
        for span in spans:
            of_stream = self._until_s.setdefault(span.key, {})
            self._count += span not in of_stream
            of_stream.setdefault(span, until_s)
        if self._count > _MOST_SPANS:
            for span in self.spans()[: self._count - _MOST_SPANS // 2]:
                self.forget(span, math.inf)

    def leave_out(self, key: StreamKey, numbers: Sequence[int]) -> None:
        """Leave out numbers of a stream, in order, since they are stored by the right way now."""
        of_stream = self._until_s.pop(key, {})
        self._count -= len(of_stream)
        for span, until_s in of_stream.items():
            self.add(span.without(numbers), until_s)

    def forget(self, span: Span, now_s: float) -> None:
        """Forget one, if it is old enough."""
        of_stream = self._until_s.get(span.key, {})
        if of_stream.get(span, now_s) < now_s:
            del of_stream[span]
            self._count -= 1
        if not of_stream:
            self._until_s.pop(span.key, None)

    def spans(self) -> list[Span]:
        """Return all of them, the oldest first."""
        return [span for span, _ in sorted(self._all(), key=lambda each: each[1])]

    def said(self) -> list[dict[str, Any]]:
        """Return them as documents."""
        return [{**span.said(), "until_s": until_s} for span, until_s in self._all()]

    def _all(self) -> list[tuple[Span, float]]:
        return [each for spans in self._until_s.values() for each in spans.items()]
