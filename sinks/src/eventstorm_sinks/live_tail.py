"""The latest messages of each topic, kept encoded; decoded only when somebody looks, and only as many as are shown."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from itertools import islice

import msgspec

from eventstorm.wire import Event, Message, event_id
from eventstorm_sinks.live_values import json_text

__all__ = ["SYSTEM_TOPICS", "EventView", "Filter", "Tail", "view"]

# What a host and Eventstorm itself say every second; whoever looks for the own events is spared of it.
SYSTEM_TOPICS = (
    *("cpu.", "memory.", "disk.", "network.", "process.", "eventstorm."),
    *("container.usage", "service.usage", "sensor.usage"),  # whole, since applications may have such topics too
)

MAX_TOPICS = 200
MAX_MESSAGES = 16  # for each topic
MAX_BYTES = 128 * 1024  # for each topic, if that is more than one message
MAX_SCAN = 200
"""Events decoded at most for one filter and frame."""
MAX_EVENTS = 50
MAX_TEXT = 4096


class Filter(msgspec.Struct, frozen=True, kw_only=True):
    """Which events somebody wants to see."""

    topic: str = ""
    """A prefix of the topic."""
    text: str = ""
    """Contained in the event's JSON, in either case."""
    system: bool = False
    """With the events of `SYSTEM_TOPICS`; a `topic` that is given goes before this."""

    def takes_topic(self, topic: str) -> bool:
        """Tell whether events of a topic may match."""
        if self.topic:
            return topic.startswith(self.topic)
        return self.system or not topic.startswith(SYSTEM_TOPICS)


class EventView(msgspec.Struct, frozen=True, kw_only=True):
    """An event for people: as text, cut at 4,096 characters."""

    id: str
    ts_ms: int
    topic: str
    host: str
    service: str
    pid: int
    text: str
    truncated: bool


def view(id: bytes, ts_ms: int, topic: str, host: str, service: str, pid: int, data: bytes) -> EventView:
    """Return an event as the page lists it; `id` is its identity, `data` its document as BSON."""
    text = json_text(data)
    if text is None:
        text = f"({len(data)} bytes that are no readable BSON)"
    return EventView(
        id=id.hex(),
        ts_ms=ts_ms,
        topic=topic,
        host=host,
        service=service,
        pid=pid,
        text=text[:MAX_TEXT],
        truncated=len(text) > MAX_TEXT,
    )


@dataclass(frozen=True, slots=True)
class _Kept:
    arrival: int
    message: Message


class _Topic:
    __slots__ = ("kept", "size_bytes")

    def __init__(self) -> None:
        self.kept: deque[_Kept] = deque()
        self.size_bytes = 0


class Tail:
    """The latest messages, bounded in topics, messages and bytes. Not safe from several threads at once."""

    def __init__(self) -> None:
        self._topics: dict[str, _Topic] = {}
        self._arrival = 0

    @property
    def arrival(self) -> int:
        """The number of the newest message."""
        return self._arrival

    def add(self, message: Message) -> None:
        """Keep a message, at the cost of older ones of its topic."""
        self._arrival += 1
        topic = self._topics.get(message.topic)
        if topic is None:
            if len(self._topics) >= MAX_TOPICS:
                self._forget_quietest()
            topic = self._topics[message.topic] = _Topic()
        topic.kept.append(_Kept(self._arrival, message))
        topic.size_bytes += len(message.payload)
        while len(topic.kept) > MAX_MESSAGES or (topic.size_bytes > MAX_BYTES and len(topic.kept) > 1):
            topic.size_bytes -= len(topic.kept.popleft().message.payload)

    def _forget_quietest(self) -> None:
        del self._topics[min(self._topics, key=lambda each: self._topics[each].kept[-1].arrival)]

    def since(self, arrival: int) -> list[Message]:
        """Return the messages that came after the number `arrival`, newest first."""
        found = [
            each
            for topic in self._topics.values()
            if topic.kept[-1].arrival > arrival
            for each in topic.kept
            if each.arrival > arrival
        ]
        found.sort(key=lambda each: each.arrival, reverse=True)
        return [each.message for each in found]


def select(messages: list[Message], wanted: Filter) -> list[EventView]:
    """Decode what matches of messages that are newest first; at most `MAX_EVENTS` of `MAX_SCAN`, in that order."""
    found: list[EventView] = []
    needle = wanted.text.casefold()
    tried = 0
    for message in messages:
        if not wanted.takes_topic(message.topic):
            continue
        header = message.header
        for event in _newest_first(message):
            if tried >= MAX_SCAN or len(found) >= MAX_EVENTS:
                return found
            tried += 1
            identity = event_id(header.source_id, header.tid, event.seq)
            seen = view(identity, event.ts_ms, message.topic, header.host, header.service, header.pid, event.data)
            if needle in seen.text.casefold():
                found.append(seen)
    return found


def _newest_first(message: Message) -> list[Event]:
    # A message can hold thousands of events; stepping over them is cheap, keeping them is not needed.
    skip = max(0, message.header.n - MAX_SCAN)
    return list(islice(message.events(), skip, None))[::-1]
