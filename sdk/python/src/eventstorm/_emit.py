"""The hot path: check the topic and the interest in it, encode, append to the buffer.

Everything here runs in the application's threads, signal handlers and finalizers, at any moment and at once. So there
is no lock: what threads share is touched by single calls into C (``deque.append``, ``next`` of a count, a dictionary
look-up). This is the seam where a native core can take over: what the publisher knows is `Emitter` alone.

The buffer is one queue for all topics, in the order of emission, so that its bound holds over all of them exactly.
An event in it is ``(index of the topic, seconds since 1970, encoded document)``; the publisher adds the rest.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any, Protocol

# The encoder behind bson.encode, in C where that is built. Called directly for two reasons: the public function does
# not let one say that the document is not at the top level, where `_id` would be moved to the front; and it costs less.
from bson import _dict_to_bson as _encode
from bson.binary import UuidRepresentation
from bson.codec_options import CodecOptions

from eventstorm._counter import Counter
from eventstorm._interest import EVERYTHING, UNKNOWN, Interest
from eventstorm.topics import RESERVED_PREFIX, is_valid_topic, wire_topic

__all__ = ["EVENT_OVERHEAD_BYTES", "NEVER", "Emit", "Emitter", "Refused", "Topic", "codec_options"]

# Aware datetimes and UUIDs are what people have in their dictionaries.
codec_options: CodecOptions[dict[str, Any]] = CodecOptions(
    uuid_representation=UuidRepresentation.STANDARD, tz_aware=True
)

# What an event takes in memory besides its document: the objects bytes (33), tuple (64), float (24), its place in the
# queue (8), and what malloc rounds up. Measured over documents of 20 to 2000 bytes.
EVENT_OVERHEAD_BYTES = 144

NEVER = 2**63


class Emit(Protocol):
    """The type of `eventstorm.emit`."""

    def __call__(self, topic: str, event: Mapping[str, Any] | None = None, /, **fields: Any) -> bool: ...


class Refused(Exception):
    """An event is not accepted, with the reason to count it under."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason


class Topic:
    """A topic that this process has used."""

    __slots__ = ("heard", "index", "name", "overflowed", "unheard", "wire")

    def __init__(self, name: str, index: int) -> None:
        self.name = name
        self.index = index
        self.wire = wire_topic(name)
        self.heard = False
        self.unheard = Counter()
        self.overflowed = Counter()


class _Topics(dict[str, Topic]):
    """The topics by name; a new one is checked and entered when it is looked up."""

    __slots__ = ("_enter",)

    def __init__(self, enter: Callable[[object], Topic]) -> None:
        self._enter = enter

    def __missing__(self, name: object) -> Topic:
        return self._enter(name)


class Emitter:
    """The buffer, and `emit`, which fills it. The publisher empties it and sets `room`, `wake_at` and the interest."""

    def __init__(self, start: Callable[[], None], wake: Callable[[], None], *, reserved: bool = False) -> None:
        """Take what starts the publisher, and what wakes it; `reserved` permits topics of Eventstorm's own."""
        self._start = start
        self._wake = wake
        self._reserved = reserved
        self.max_event_bytes = 0
        self.max_topics = 0
        self.queue: deque[tuple[int, float, bytes]] = deque()
        self.append = self.queue.append
        self.topics = _Topics(self._enter)
        self.emit = self._build_emit()
        self.reset()

    def reset(self) -> None:
        """Begin afresh, as a forked child and a new configuration must: empty buffer, no topics, nothing counted."""
        self.queue.clear()
        self.append = self.queue.append
        self.topics.clear()
        self.by_index: dict[int, Topic] = {}
        self._indices = Counter()
        self.interest: Interest = UNKNOWN
        self.closed = False
        # Bytes that were ever added. `+=` of an attribute is not promised to be atomic, though it is in CPython, whose
        # threads take turns at calls and loops only. A lost addition would loosen the bound until the queue is empty.
        self.added = 0
        self.room = 0
        self.wake_at = NEVER
        self.refused: dict[str, Counter] = {}
        self.examples: dict[str, str] = {}
        self.faults = Counter()

    def set_interest(self, interest: Interest) -> None:
        """Replace the interest, and with it what topics are heard. Called by the publisher only."""
        self.interest = interest
        for topic in list(self.topics.values()):
            topic.heard = interest.wants(topic.wire)

    def wanted(self, topic: str) -> bool:
        """Tell whether an event of `topic` would be accepted now."""
        try:
            return self.topics[topic].heard
        except Exception:  # as in emit
            return False

    def _build_emit(self) -> Emit:
        """Make `emit`: a closure, since cells are faster to reach than attributes."""
        topics, encode, options, clock, refuse = self.topics, _encode, codec_options, time.time, self._refuse

        def emit(topic: str, event: Mapping[str, Any] | None = None, /, **fields: Any) -> bool:
            """Emit one event; never block, never raise.

            Args:
                topic: dot-separated lower-case segments, such as ``shop.order``.
                event: a mapping of what BSON can hold; it is encoded now, so later changes do not matter.
                **fields: more fields, or all of them.

            Returns:
                True if the event is accepted: in the buffer, to be sent. False if nobody listens to the topic, or if
                the event is refused; `stats` counts each under its reason. May be called from any thread, signal
                handler or finalizer, and after a fork.
            """
            try:
                entry = topics[topic]
                if not entry.heard:
                    entry.unheard.add()
                    return False
                if event is not None:
                    fields = {**event, **fields} if fields else event  # type: ignore[assignment]
                data = encode(fields, False, options, False)
                size = len(data)
                if size > self.max_event_bytes:
                    raise Refused("too_large", f"{size} bytes")
                added = self.added + size + EVENT_OVERHEAD_BYTES
                if added > self.room:
                    entry.overflowed.add()
                    self._start()
                    return False
                self.append((entry.index, clock(), data))
                self.added += size + EVENT_OVERHEAD_BYTES
                if added > self.wake_at:
                    self._wake()
                return True
            except Exception as error:  # the application must not pay for what it logs
                try:
                    return refuse(topic, error)
                except Exception:
                    self.faults.add()
                    return False

        return emit

    def _enter(self, name: object) -> Topic:
        """Check a topic that was not used before and enter it.

        Raises:
            Refused: it is not accepted.
        """
        if self.closed:
            raise Refused("closed", "the SDK is closed")
        if not isinstance(name, str) or not is_valid_topic(name):
            raise Refused("bad_topic", f"{str(name)[:80]!r}: a topic is segments of a-z, 0-9, _ and -, joined by dots")
        if name.startswith(RESERVED_PREFIX) and not self._reserved:
            raise Refused("bad_topic", f"{name!r}: {RESERVED_PREFIX} is reserved for Eventstorm's own events")
        if len(self.topics) >= self.max_topics > 0:
            raise Refused("too_many_topics", f"{name!r}; max_topics is {self.max_topics}")
        self._start()
        # Two threads may enter the same topic at once: the first wins, and an index is left unused.
        entry = self.topics.setdefault(str(name), Topic(str(name), self._indices.add()))
        self.by_index[entry.index] = entry
        # The publisher may replace the interest while this looks at it, and not see this topic yet: look again.
        while True:
            interest = self.interest
            entry.heard = interest.wants(entry.wire)
            if self.interest is interest:
                return entry

    def _refuse(self, topic: object, error: Exception) -> bool:
        reason = error.reason if isinstance(error, Refused) else "unencodable"
        # The text now and not the exception, which would keep the application's frames alive.
        self.examples[reason] = f"{str(topic)[:80]}: {str(error)[:200]}"
        self.refused.setdefault(reason, Counter()).add()
        return False

    def capture(self, sink: deque[tuple[int, float, bytes]]) -> Callable[[], None]:
        """Divert all events into `sink` until the returned function is called. For tests; nothing is published."""
        start, topics, by_index, interest, room = (
            self._start,
            dict(self.topics),
            self.by_index,
            self.interest,
            self.room,
        )
        self._start = lambda: None
        self.topics.clear()
        self.by_index = {}
        self.interest, self.room, self.append = EVERYTHING, NEVER, sink.append

        def restore() -> None:
            self._start, self.by_index, self.interest, self.room = start, by_index, interest, room
            self.append = self.queue.append
            self.topics.clear()
            self.topics.update(topics)
            self.set_interest(interest)

        return restore
