"""Which partition an event lies in: of its topic, the bucket of its time, and one of the bucket's shards.

A function of the event alone, however it is batched: an event that is written again comes to the same place.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from eventstorm.errors import SettingError
from eventstorm.wire import Events
from eventstorm_sinks.batch import StreamKey
from eventstorm_sinks.settings import parse_duration

__all__ = ["MAX_BUCKET_S", "Bucket", "Layout", "Layouts", "Partition", "layouts_of"]

MAX_BUCKET_S, MAX_SHARDS = 31 * 86_400, 256
_RULE = re.compile(r"([a-z0-9_.-]*\*?)=([^/]+)(?:/([0-9]{1,3}))?")
# Neighbours of a stream go to the same shard, so that batches stay large however many shards there are.
_RUN = 256
_MIN_MS = -(2**63)


class Bucket(NamedTuple):
    """The events of a topic from a time on, for so many seconds, in so many partitions."""

    topic: str
    start_ms: int
    width_s: int
    shards: int


class Partition(NamedTuple):
    """What Cassandra keeps together, sorted by time and identity."""

    topic: str
    bucket_ms: int
    shard: int


class Layout(NamedTuple):
    """How a topic is cut into partitions."""

    width_s: int
    shards: int

    def bucket_ms(self, ts_ms: int) -> int:
        """Return where the bucket of a time begins."""
        width_ms = self.width_s * 1000
        return max(ts_ms - ts_ms % width_ms, _MIN_MS)

    def shard(self, key: StreamKey, seq: int) -> int:
        """Return the shard of a number of a stream."""
        if self.shards == 1:
            return 0
        return (zlib.crc32(key.source_id + key.tid.to_bytes(4, "big")) + seq // _RUN) % self.shards

    def parts(self, key: StreamKey, events: Events) -> Iterator[tuple[int, int, Events]]:
        """Yield (start of the bucket, shard, events) of one stream, in the order of their numbers."""
        width_ms = self.width_s * 1000
        bucket_ms = self.bucket_ms(events.ts_ms[0])
        if self.shards == 1 and bucket_ms <= min(events.ts_ms) and max(events.ts_ms) < bucket_ms + width_ms:
            yield bucket_ms, 0, events
            return
        places = [
            (self.bucket_ms(ts_ms), self.shard(key, seq)) for seq, ts_ms in zip(events.seqs, events.ts_ms, strict=True)
        ]
        first = 0
        for index in range(1, len(places) + 1):
            if index == len(places) or places[index] != places[first]:
                yield *places[first], events[first:index]
                first = index


class Layouts:
    """The layouts of topics: those that are named, those of subtrees, and that of all others.

    Args:
        rules: from patterns, as ``http.hit``, ``http.*`` and ``*``, to layouts.
    """

    def __init__(self, rules: dict[str, Layout]) -> None:
        self._rules = rules

    def of(self, topic: str) -> Layout:
        """Return the layout of a topic: that of the longest pattern."""
        found = [each for each in self._rules if each == topic or (each[-1:] == "*" and topic.startswith(each[:-1]))]
        return self._rules[max(found, key=len)]


def layouts_of(texts: Sequence[str], place: str = "sink.cassandra_layout") -> Layouts:
    """Read the setting: ``("*=1h", "http.*=10m/4")``.

    Raises:
        SettingError: it is not understood.
    """
    rules = {"*": Layout(3600, 1)}
    for text in texts:
        rule = _RULE.fullmatch(text)
        if not rule or not rule[1]:
            raise SettingError(f"{place}: {text!r}: write TOPIC=WIDTH/SHARDS, as *=1h/1 or http.*=10m/4")
        layout = Layout(int(parse_duration(rule[2], place) or 0), int(rule[3] or 1))
        if not 1 <= layout.width_s <= MAX_BUCKET_S or not 1 <= layout.shards <= MAX_SHARDS:
            raise SettingError(f"{place}: {text!r}: from 1s to 31d, and from 1 to {MAX_SHARDS} shards")
        rules[rule[1]] = layout
    return Layouts(rules)
