"""Numbers that a server may yet insert although they were removed. Pure; written down in the journal."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import bson

from eventstorm_sinks.batch import StreamKey
from eventstorm_sinks.stores.mongodb._envelope import stream_id

__all__ = ["Late", "Span"]


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


class Late:
    """Spans, each until a time in seconds since 1970."""

    def __init__(self) -> None:
        self._until_s: dict[Span, float] = {}

    def __bool__(self) -> bool:
        return bool(self._until_s)

    def add(self, spans: Iterable[Span], until_s: float) -> None:
        """Enter spans; those that are there already stay as they are."""
        for span in spans:
            self._until_s.setdefault(span, until_s)

    def leave_out(self, key: StreamKey, numbers: Sequence[int]) -> None:
        """Leave out numbers of a stream, in order, since they are stored by the right way now."""
        for span, until_s in list(self._until_s.items()):
            if span.key == key:
                del self._until_s[span]
                self.add(span.without(numbers), until_s)

    def forget(self, now_s: float) -> None:
        """Forget what is old enough."""
        self._until_s = {span: until_s for span, until_s in self._until_s.items() if until_s > now_s}

    def spans(self) -> list[Span]:
        """Return all of them."""
        return list(self._until_s)

    def said(self) -> list[dict[str, Any]]:
        """Return them as documents."""
        return [{**span.said(), "until_s": until_s} for span, until_s in self._until_s.items()]
