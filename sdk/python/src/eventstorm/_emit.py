"""The hot path: check the topic and the interest in it, encode, append to the buffer.

Everything here runs in the application's threads, signal handlers and finalizers, at any moment and at once. So there
is no lock: what threads share is touched by single calls into C (``deque.append``, ``next`` of a count, a dictionary
look-up). This is the seam where a native core can take over: what the publisher knows is `Emitter` alone.

The buffer is one queue for all topics, in the order of emission, so that its bound holds over all of them exactly.
An event in it is ``(index of the topic, seconds since 1970, encoded document)``; the publisher adds the rest.
"""

from __future__ import annotations

import struct
import time
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any, Protocol, TypeGuard

# The encoder behind bson.encode, in C where that is built. Called directly for two reasons: the public function does
# not let one say that the document is not at the top level, where `_id` would be moved to the front; and it costs less.
from bson import _dict_to_bson as _encode
from bson.binary import UuidRepresentation
from bson.codec_options import CodecOptions

from eventstorm._counter import Counter
from eventstorm._interest import UNKNOWN, Interest
from eventstorm.context import common_fields
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

# Of an empty BSON document: its length, and a NUL byte.
_LEAST_BYTES = 5
_length = struct.Struct("<i")

# Milliseconds have 64 bits on the wire.
_MOST_S = 2**63 / 1000


class Emit(Protocol):
    """The type of `eventstorm.emit`."""

    def __call__(self, topic: str, event: Mapping[str, Any] | None = None, /, **fields: Any) -> bool: ...


class EmitEncoded(Protocol):
    """The type of `eventstorm.emit_encoded`."""

    def __call__(self, topic: str, data: bytes, ts_s: float | None = None, /) -> bool: ...


class Refused(Exception):
    """An event is not accepted, with the reason to count it under."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason


def _checked_time(ts_s: object) -> float:
    if not isinstance(ts_s, (float, int)) or not -_MOST_S < ts_s < _MOST_S:
        raise Refused("bad_time", f"{ts_s!r:.40} is no number of seconds that fits")
    return float(ts_s)


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
    """The buffer, and `emit`, which fills it.

    The publisher empties it, and sets how far it may fill, when to be woken, and the interest.
    """

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
        self._indices = Counter()
        self._capturing = False
        self.emit = self._build_emit()
        self.emit_encoded: EmitEncoded = self._build_emit_encoded()
        self.reset()

    def reset(self) -> None:
        """Begin afresh, as a forked child and a new configuration must: empty buffer, no topics, nothing counted.

        But the topics' indices go on, so that no event is ever taken for one of another topic.
        """
        self.queue.clear()
        self.append = self.queue.append
        self.topics.clear()
        self.by_index: dict[int, Topic] = {}
        self.interest: Interest = UNKNOWN
        self.closed = False
        # Bytes that were ever added. `+=` of an attribute is not promised to be atomic, though it is in CPython, whose
        # threads take turns at calls and loops only. A lost addition would loosen the bound until the queue is empty.
        self.added = 0
        self._wake_at = NEVER
        self.set_room(0)
        self.refused: dict[str, Counter] = {"closed": Counter()}
        self.examples: dict[str, str] = {}
        self.faults = Counter()
        # Stands for the topics of before: an `emit` that looked one up then may append its event only now.
        self._former = Topic("former", -1)
        self._former.unheard = self.refused["closed"]

    def topic(self, index: int) -> Topic:
        """Return the topic of an event in the buffer."""
        return self.by_index.get(index, self._former)

    def set_interest(self, interest: Interest) -> None:
        """Replace the interest, and with it what topics are heard. Called by the publisher only."""
        self.interest = interest
        self._listen()

    def _listen(self) -> None:
        for topic in list(self.by_index.values()):  # not `topics`, which `close` empties
            topic.heard = self._hears(topic)

    def _hears(self, topic: Topic) -> bool:
        return self._capturing or self.interest.wants(topic.wire)

    def set_room(self, room: int) -> None:
        """Set how far `added` may grow. Called by the publisher only."""
        self._room = room
        self.room = NEVER if self._capturing else room
        self._unattended = min(self.room, self._wake_at)

    def set_wake_at(self, wake_at: int) -> None:
        """Set which `added` wakes the publisher when it is passed.

        Threads may do this at once and leave `_unattended` too high: whoever does writes to the publisher's pipe
        afterwards, and the publisher, woken, sets it anew.
        """
        self._wake_at = wake_at
        self._unattended = min(self.room, wake_at)

    def wanted(self, topic: str) -> bool:
        """Tell whether somebody listens to `topic`, or may: before a router has answered, events are held."""
        try:
            return self.topics[topic].heard
        except Exception:  # as in emit
            return False

    def _build_emit(self) -> Emit:
        """Make `emit`: a closure, since cells are faster to reach than attributes."""
        topics, encode, options, clock, refuse = self.topics, _encode, codec_options, time.time, self._refuse
        overhead, common_in_context = EVENT_OVERHEAD_BYTES, common_fields.get

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
                common = common_in_context()
                if common is not None:
                    fields = {**common, **fields}
                data = encode(fields, False, options, False)
                size = len(data)
                if size > self.max_event_bytes:
                    raise Refused("too_large", f"{size} bytes")
                cost = size + overhead
                if self.added + cost > self._unattended:
                    return self._append_attended(entry, clock(), data, cost)
                self.append((entry.index, clock(), data))
                self.added += cost
                return True
            except Exception as error:  # the application must not pay for what it logs
                try:
                    return refuse(topic, error)
                except Exception:
                    self.faults.add()
                    return False

        return emit

    def _build_emit_encoded(self) -> EmitEncoded:
        topics, clock, refuse = self.topics, time.time, self._refuse
        overhead, length_of, append_attended = EVENT_OVERHEAD_BYTES, _length.unpack_from, self._append_attended

        def emit_encoded(topic: str, data: bytes, ts_s: float | None = None, /) -> bool:
            """Emit an event that is encoded already: `data` is one BSON document, taken as it is. Else as `emit`.

            If it did not happen now, `ts_s` says when, as in `emit_at`.

            The common fields of the context are not added. Of `data` only its length is checked; if anything else about
            it is wrong, those who read it find out.
            """
            try:
                entry = topics[topic]
                if not entry.heard:
                    entry.unheard.add()
                    return False
                size = len(data)
                if type(data) is not bytes or size < _LEAST_BYTES or length_of(data)[0] != size:
                    raise Refused("unencodable", "the bytes are no BSON document")
                if size > self.max_event_bytes:
                    raise Refused("too_large", f"{size} bytes")
                if ts_s is None:
                    ts_s = clock()
                elif type(ts_s) is not float or not -_MOST_S < ts_s < _MOST_S:
                    ts_s = _checked_time(ts_s)
                cost = size + overhead
                if self.added + cost > self._unattended:
                    return append_attended(entry, ts_s, data, cost)
                self.append((entry.index, ts_s, data))
                self.added += cost
                return True
            except Exception as error:  # as in emit
                try:
                    return refuse(topic, error)
                except Exception:
                    self.faults.add()
                    return False

        return emit_encoded

    def emit_at(self, topic: str, event: Mapping[str, Any], ts_s: float, /) -> bool:
        """Emit an event that happened at another time than now: `ts_s` seconds since 1970. Else as `emit`.

        A time that does not fit into milliseconds of 64 bits refuses the event as ``bad_time``.
        """
        try:
            entry = self.topics[topic]
            if not entry.heard:
                entry.unheard.add()
                return False
            at_s = _checked_time(ts_s)
            common = common_fields.get()
            data = _encode(event if common is None else {**common, **event}, False, codec_options, False)
            if len(data) > self.max_event_bytes:
                raise Refused("too_large", f"{len(data)} bytes")
            return self._append_attended(entry, at_s, data, len(data) + EVENT_OVERHEAD_BYTES)
        except Exception as error:  # as in emit
            try:
                return self._refuse(topic, error)
            except Exception:
                self.faults.add()
                return False

    def _append_attended(self, entry: Topic, ts_s: float, data: bytes, cost: int) -> bool:
        """Append an event that may be too much for the buffer, or that the publisher waits for."""
        added = self.added + cost
        if added > self.room:
            entry.overflowed.add()
            self._start()
            return False
        self.append((entry.index, ts_s, data))
        self.added += cost
        if added > self._wake_at:
            self._wake()
        return True

    def _enter(self, name: object) -> Topic:
        """Check a topic that was not used before and enter it.

        Raises:
            Refused: it is not accepted.
        """
        if self.closed:
            raise Refused("closed", "the SDK is closed")
        if not _is_text(name):
            raise Refused("bad_topic", "a topic is a str")
        # Exactly a str, since a subclass may compare, measure and call itself otherwise, as enumerations do.
        name = str.__str__(name)
        if name in self.topics:
            return self.topics[name]
        if not is_valid_topic(name):
            raise Refused("bad_topic", "a topic is segments of a-z, 0-9, _ and -, joined by dots")
        if name.startswith(RESERVED_PREFIX) and not self._reserved:
            raise Refused("bad_topic", f"{RESERVED_PREFIX} is reserved for Eventstorm's own events")
        if len(self.topics) >= self.max_topics:
            raise Refused("too_many_topics", f"max_topics is {self.max_topics}")
        self._start()
        # Complete before others can see it. Two threads may enter the same topic at once: the first wins.
        mine = Topic(name, self._indices.add())
        mine.heard = self._hears(mine)
        self.by_index[mine.index] = mine
        entry = self.topics.setdefault(name, mine)
        if entry is not mine:
            del self.by_index[mine.index]
        # The publisher may have replaced the interest, or `close` emptied the topics, when this one was not there yet.
        while entry.heard != (heard := self._hears(entry)):
            entry.heard = heard
        if self.closed:
            self.topics.pop(name, None)
            raise Refused("closed", "the SDK is closed")
        return entry

    def _refuse(self, topic: object, error: Exception) -> bool:
        reason = error.reason if isinstance(error, Refused) else "unencodable" if _is_text(topic) else "bad_topic"
        # Counted first: what follows may fail, since the objects of the application may do anything when looked at.
        self.refused.setdefault(reason, Counter()).add()
        try:
            detail = str(error)
        except Exception:
            detail = type(error).__name__
        name = str.__str__(topic)[:80] if _is_text(topic) else type(topic).__name__
        # The text now and not the exception, which would keep the application's frames alive. In ASCII, for any log.
        self.examples[reason] = f"{name!a}: {ascii(detail[:200])[1:-1]}"
        if not self.closed:
            self._start()  # since the publisher logs it
        return False

    def capture(self, sink: deque[tuple[int, float, bytes]]) -> Callable[[], None]:
        """Divert all events into `sink` until the returned function is called. For tests; nothing is published."""
        start, closed, topics, by_index = self._start, self.closed, dict(self.topics), self.by_index
        self._start, self.closed, self.by_index = lambda: None, False, {}
        self.topics.clear()
        self._capturing, self.append = True, sink.append
        self.set_room(self._room)

        def restore() -> None:
            self._start, self.closed, self.by_index = start, closed, by_index
            self.topics.clear()
            self.topics.update(topics)
            self._capturing, self.append = False, self.queue.append
            self.set_room(self._room)
            self._listen()

        return restore


def _is_text(value: object) -> TypeGuard[str]:
    # Not isinstance, which asks an object for its class where its type does not say so.
    return issubclass(type(value), str)
