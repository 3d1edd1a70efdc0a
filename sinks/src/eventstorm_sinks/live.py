"""The live window: the last minutes of what came in, ready to be drawn, bounded whatever comes.

The receiving thread calls `Live.observe` for each message: it counts and keeps a reference, no more. One other thread
calls `Live.tick` every second, which folds what came into bins, and then takes `Live.bins`, `Live.tables` and
`Live.events`. Nothing here does I/O.
"""

from __future__ import annotations

import struct
import threading
from collections import Counter, deque
from collections.abc import Callable
from itertools import islice
from typing import Any, NamedTuple

from eventstorm.wire import ENVELOPE_BYTES, Message
from eventstorm_sinks.ledger import Observation
from eventstorm_sinks.live_bins import Bins, LineKey
from eventstorm_sinks.live_tables import LatestRows, Row
from eventstorm_sinks.live_tail import EventView, Filter, Tail, select
from eventstorm_sinks.live_values import MAX_TEXT, decode, dig, number
from eventstorm_sinks.panels import PANELS, TABLES, Panel

__all__ = ["OTHER_TOPICS", "WINDOW_S", "BinChange", "Live"]

WINDOW_S = 300
FUTURE_S = 5
"""Clocks differ: bins so much after now are kept; what is later, or before the window, is left to history."""
MAX_TOPICS = 200
OTHER_TOPICS = "(other)"
MAX_LINES = 64  # of a panel that is not by topic
MAX_PENDING_MESSAGES = 4096
MAX_PENDING_BYTES = 8 * 2**20
MAX_FOLDED_EVENTS = 5000  # in one tick
MAX_FOLDED_BYTES = 64 * 1024  # of one event
# A batch leaves its source about 20 ms after its first event, so nearly always both lie in one second and no event has
# to be looked at. Threads of a source may append in another order than they took the time: hence not within 50 ms of
# the second's beginning.
_BEGINNING_MS = 50

_length_and_ts = struct.Struct("<i4xq")


class BinChange(NamedTuple):
    """The bins of one line that changed: their absolute values."""

    label: str
    by: str
    bins: list[tuple[int, float]]


class Live:
    """The live window.

    Args:
        clock: seconds since 1970, as `time.time`.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._start_s = int(clock())
        self._lock = threading.Lock()  # around what observe() and tick() share; never held while decoding
        self._counts: dict[tuple[str, int], int] = {}
        self._known_topics: set[str] = set()
        self._pending: deque[Message] = deque()
        self._pending_bytes = 0
        self._tail = Tail()
        self._skipped = 0
        # From here on: only the thread that ticks.
        self._folded_topics = {each.topic for each in PANELS if each.topic} | {each.topic for each in TABLES}
        self._bins = {
            each.id: Bins(each.aggregate, MAX_TOPICS + 1 if each.by == "topic" else MAX_LINES) for each in PANELS
        }
        self._tables = {each.id: LatestRows(each) for each in TABLES}
        self._tick = 0
        self._ignored = 0

    @property
    def tick_number(self) -> int:
        """How many times `tick` has run."""
        return self._tick

    @property
    def ignored(self) -> int:
        """Values that could not be drawn: no numbers, too many lines, too large, or too many at once."""
        return self._ignored + self._skipped

    @property
    def arrival(self) -> int:
        """The number of the newest message, to ask `events` for what comes after it."""
        with self._lock:
            return self._tail.arrival

    def since_s(self, now: float) -> int:
        """Return the first second that bins are complete for: after this process started, and within the window."""
        return max(self._start_s + 1, int(now) - WINDOW_S)

    def observe(self, message: Message, observation: Observation) -> None:
        """Take note of a message and what the ledger said of it. Cheap and bounded; called by the receiving thread."""
        header = message.header
        if not observation.new:
            return
        counted = _count_by_second(message, observation.duplicates)
        now_s = int(self._clock())
        with self._lock:
            topic = message.topic
            if topic not in self._known_topics:
                if len(self._known_topics) < MAX_TOPICS:
                    self._known_topics.add(topic)
                else:
                    topic = OTHER_TOPICS
            for second, count in counted.items():
                if now_s - WINDOW_S <= second <= now_s + FUTURE_S:
                    self._counts[topic, second] = self._counts.get((topic, second), 0) + count
            if message.topic in self._folded_topics:
                if len(self._pending) < MAX_PENDING_MESSAGES and self._pending_bytes < MAX_PENDING_BYTES:
                    self._pending.append(message)
                    self._pending_bytes += len(message.payload)
                else:
                    self._skipped += header.n
            self._tail.add(message)

    def tick(self) -> None:
        """Fold what came since the last call into the bins, and forget what is older than the window."""
        now = self._clock()
        with self._lock:
            counts, self._counts = self._counts, {}
            pending, self._pending = self._pending, deque()
            self._pending_bytes = 0
        self._tick += 1
        events = self._bins["events"]
        for (topic, second), count in counts.items():
            events.add(LineKey("", topic), second, self._tick, count=count)
        self._fold(pending, int(now))
        for bins in self._bins.values():
            bins.forget_before(int(now) - WINDOW_S)
        quiet = self._known_topics - events.splits()
        if quiet:
            with self._lock:
                self._known_topics -= quiet

    def bins(self, since_tick: int) -> dict[str, list[BinChange]]:
        """Return each panel's bins that changed after the tick `since_tick`; 0 for the whole window."""
        first = self.since_s(self._clock())
        return {
            id: [BinChange(*key, changed) for key, changed in bins.changed_since(since_tick, first)]
            for id, bins in self._bins.items()
        }

    def tables(self) -> dict[str, list[Row]]:
        """Return the rows of each table."""
        return {id: table.rows() for id, table in self._tables.items()}

    def events(self, wanted: Filter, after: int) -> list[EventView]:
        """Return the newest events that match, of the messages numbered after `after`; newest first, at most 50."""
        with self._lock:
            messages = self._tail.since(after)
        return select(messages, wanted)

    def _fold(self, messages: deque[Message], now_s: int) -> None:
        left = MAX_FOLDED_EVENTS
        for message in messages:
            if left <= 0:
                self._ignored += message.header.n
                continue
            for event in message.events():
                left -= 1
                second = event.ts_ms // 1000
                if not now_s - WINDOW_S <= second <= now_s + FUTURE_S:
                    continue
                document = decode(event.data) if left >= 0 and len(event.data) <= MAX_FOLDED_BYTES else None
                if document is None:
                    self._ignored += 1
                    continue
                for panel in PANELS:
                    if panel.topic == message.topic:
                        self._fold_panel(panel, message, document, second)
                for table in self._tables.values():
                    if table.topic == message.topic:
                        table.add(message.header.host, event.ts_ms, document)

    def _fold_panel(self, panel: Panel, message: Message, document: dict[str, Any], second: int) -> None:
        by = _split_value(panel, message, document)
        for label, field in panel.lines:
            found = dig(document, field or "")
            value = number(found)
            if value is not None:
                if not self._bins[panel.id].add(LineKey(label, by), second, self._tick, total=value):
                    self._ignored += 1
            elif found is not None:
                self._ignored += 1


def _count_by_second(message: Message, duplicates: int) -> dict[int, int]:
    header, payload = message.header, message.payload
    length, ts_ms = _length_and_ts.unpack_from(payload)
    if duplicates:
        return Counter(event.ts_ms // 1000 for event in islice(message.events(), duplicates, None))
    if header.n == 1 or (header.at_ms // 1000 == ts_ms // 1000 and ts_ms % 1000 >= _BEGINNING_MS):
        return {ts_ms // 1000: header.n}
    counted: dict[int, int] = {}
    offset, end = 0, len(payload) - ENVELOPE_BYTES
    while offset < end:
        length, ts_ms = _length_and_ts.unpack_from(payload, offset)
        second = ts_ms // 1000
        counted[second] = counted.get(second, 0) + 1
        offset += length
    return counted


def _split_value(panel: Panel, message: Message, document: dict[str, Any]) -> str:
    if panel.by is None:
        return ""
    if panel.by == "source.host":
        return message.header.host
    value = dig(document, panel.by)
    return value[:MAX_TEXT] if isinstance(value, str) else ""
