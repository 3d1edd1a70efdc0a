"""From the buffer to messages: number the events of each topic, join them into batches. No I/O; used by one thread."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterator
from itertools import accumulate
from operator import itemgetter
from typing import NamedTuple

from eventstorm._emit import EVENT_OVERHEAD_BYTES, Topic
from eventstorm.wire import ENVELOPE_BYTES, Header, encode_message, start_event

__all__ = ["Batcher", "Outgoing", "Stream"]

_HEARTBEAT_SLOWDOWN = 8
_MAX_HEARTBEAT_S = 60.0


class Outgoing(NamedTuple):
    """A message that is ready to be sent."""

    frames: list[bytes]
    stream: Stream
    events: int
    cost: int
    """What its events took of the buffer's bound, in bytes."""
    size: int


class Stream:
    """One topic of this source, as numbered so far."""

    __slots__ = ("announced", "drop", "last_event_s", "last_sent_s", "sent", "seq", "tid", "topic")

    def __init__(self, topic: Topic, tid: int, now_s: float) -> None:
        self.topic = topic
        self.tid = tid
        self.seq = 0
        self.drop = 0
        self.sent = 0
        self.announced = False
        self.last_event_s = now_s
        self.last_sent_s = now_s

    def count_drops(self) -> None:
        """Number what overflowed since the last time. The numbers go before those of the next batch."""
        drop = self.topic.overflowed.value()
        self.seq += drop - self.drop
        self.drop = drop


_index_of = itemgetter(0)


class Batcher:
    """Numbers events and makes messages."""

    def __init__(self, source_id: bytes, host: str, service: str, pid: int, heartbeat_s: float) -> None:
        self._source_id, self._host, self._service, self._pid = source_id, host, service, pid
        self._heartbeat_s = heartbeat_s
        self.streams: dict[int, Stream] = {}

    def pack(
        self,
        topics: Callable[[int], Topic],
        events: list[tuple[int, float, bytes]],
        batch_bytes: int,
        now_s: float,
        at_ms: int,
    ) -> Iterator[Outgoing]:
        """Yield the messages for some of the buffer's events, a topic at a time. Unheard ones are counted as that."""
        by_topic: dict[int, list[tuple[int, float, bytes]]] = {}
        indices = set(map(_index_of, events))
        if len(indices) == 1:  # as most often, since it is a burst of one topic that makes many events
            by_topic[indices.pop()] = events
        else:
            for event in events:
                by_topic.setdefault(event[0], []).append(event)
        for index, group in by_topic.items():
            topic = topics(index)
            if not topic.heard:
                for _ in group:
                    topic.unheard.add()
                continue
            stream = self.streams.get(index)
            if stream is None:
                stream = self.streams[index] = Stream(topic, len(self.streams), now_s)
            if not stream.announced:
                # Says where the numbers begin, so that a loss before the first batch is seen.
                stream.announced = True
                yield self.heartbeat(stream, now_s, at_ms)
            stream.count_drops()
            stream.last_event_s = now_s
            yield from self._batches(stream, group, batch_bytes, now_s, at_ms)

    def _batches(
        self, stream: Stream, group: list[tuple[int, float, bytes]], batch_bytes: int, now_s: float, at_ms: int
    ) -> Iterator[Outgoing]:
        # Each event in three pieces, which are joined once: putting an event together first would copy it once more.
        pieces = [b"\0"] * (3 * len(group))
        pieces[0::3] = [start_event(len(data), int(ts_s * 1000)) for _, ts_s, data in group]
        pieces[1::3] = documents = [event[2] for event in group]
        ends = list(accumulate([len(each) + ENVELOPE_BYTES for each in documents]))
        start = before = 0
        while start < len(group):
            stop = max(start + 1, bisect_right(ends, before + batch_bytes))
            payload = b"".join(pieces[3 * start : 3 * stop])
            yield self._message(stream, payload, stop - start, now_s, at_ms)
            start, before = stop, ends[stop - 1]

    def _message(self, stream: Stream, payload: bytes, n: int, now_s: float, at_ms: int) -> Outgoing:
        frames = self._frames(stream, n, payload, at_ms)
        stream.seq += n
        stream.last_sent_s = now_s
        cost = len(payload) + n * (EVENT_OVERHEAD_BYTES - ENVELOPE_BYTES)
        return Outgoing(frames, stream, n, cost, sum(map(len, frames)))

    def heartbeat(self, stream: Stream, now_s: float, at_ms: int, *, bye: bool = False) -> Outgoing:
        """Return a message without events, which tells the next number."""
        stream.last_sent_s = now_s
        frames = self._frames(stream, 0, b"", at_ms, bye)
        return Outgoing(frames, stream, 0, 0, len(frames[1]))

    def _frames(self, stream: Stream, n: int, payload: bytes, at_ms: int, bye: bool = False) -> list[bytes]:
        header = Header(
            source_id=self._source_id,
            tid=stream.tid,
            seq=stream.seq,
            n=n,
            drop=stream.drop,
            at_ms=at_ms,
            host=self._host,
            service=self._service,
            pid=self._pid,
            bye=bye,
        )
        return encode_message(stream.topic.name, header, payload)

    def due_at(self, stream: Stream) -> float:
        """Return when the stream's next heartbeat is due, on the clock of `now_s`.

        Every second while the topic is active or has numbers that were not told, then ever more seldom, up to a minute:
        a reader that was away for the last events and for the first heartbeats still learns of its loss.
        """
        if stream.topic.overflowed.value() != stream.drop:
            return stream.last_sent_s + self._heartbeat_s
        idle_s = stream.last_sent_s - stream.last_event_s
        return stream.last_sent_s + min(max(self._heartbeat_s, idle_s / _HEARTBEAT_SLOWDOWN), _MAX_HEARTBEAT_S)
