"""What waits for one store: messages in a bounded number of bytes, and accounts of what found no room.

No I/O, no clock, no lock: the writer that owns a queue holds its own. The numbers of a stream are entered into the
books in their order, so what was dropped keeps its place: in front of all that waits, or behind it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

from eventstorm.wire import Message
from eventstorm_sinks.batch import Book, StreamKey
from eventstorm_sinks.books import Entry

__all__ = ["Queue", "size_of"]

# What a message takes in memory besides its own `size_bytes`: objects, header and queue entry.
MESSAGE_OVERHEAD_BYTES = 1000
MAX_OVERFLOWED_STREAMS = 10_000


def size_of(message: Message) -> int:
    """Return the bytes of memory that a message is taken to need."""
    return message.size_bytes + MESSAGE_OVERHEAD_BYTES


class Queue:
    """Messages in the order of their arrival. What has been taken out counts until it is released.

    Args:
        size_bytes: may be held; one message always finds room.
        drop_oldest: whether the oldest that still wait make room for what arrives, or what arrives is dropped.
    """

    def __init__(self, size_bytes: int, *, drop_oldest: bool = False) -> None:
        self._size_bytes, self._drop_oldest = size_bytes, drop_oldest
        self._waiting: deque[Message | Entry] = deque()
        self._before: dict[StreamKey, Entry] = {}
        """What was dropped in front of all that waits."""
        self._after: dict[StreamKey, Entry] = {}
        """What was dropped behind it."""
        self._pending: dict[StreamKey, int] = {}
        self._unbooked: list[Entry] = []
        """What was dropped and has been taken out, and is in no book yet."""
        self._taken_bytes = 0
        self.size_bytes = self.events = 0
        """Of all that waits or has been taken out."""

    def __bool__(self) -> bool:
        """Whether there is something to take."""
        return bool(self._waiting or self._before or self._after)

    @property
    def is_empty(self) -> bool:
        """Whether no message waits."""
        return not self._waiting

    def put(self, message: Message) -> list[Message]:
        """Take a message in, and return what was dropped for want of room: it itself, or older ones, or nothing."""
        dropped: list[Message] = []
        size = size_of(message)
        if not self._has_room(size):
            # Where what is being written leaves no room, nothing is gained by dropping what waits.
            if self._drop_oldest and (not self._taken_bytes or self._taken_bytes + size <= self._size_bytes):
                while not self._has_room(size):
                    dropped += self._drop_first()
            else:
                _add(self._after, Entry.overflowed(message))
                return [message]
        header = message.header
        key = StreamKey(header.source_id, header.tid)
        if self._after and (overflowed := self._after.pop(key, None)):
            self._waiting.append(overflowed)
        self._waiting.append(message)
        self.size_bytes += size
        if header.n:
            self.events += header.n
            self._pending[key] = self._pending.get(key, 0) + header.n
        return dropped

    def _has_room(self, size_bytes: int) -> bool:
        return not self.size_bytes or self.size_bytes + size_bytes <= self._size_bytes

    def _drop_first(self) -> list[Message]:
        first = self._waiting.popleft()
        if isinstance(first, Entry):
            _add(self._before, first)
            return []
        _add(self._before, Entry.overflowed(first))
        self._forget(first)
        return [first]

    def take(self, most_events: int, most_bytes: int) -> list[Message | Entry]:
        """Take out what comes next, at least one message if there is any; to be released when it is dealt with."""
        taken: list[Message | Entry] = list(self._before.values())
        self._before.clear()
        events = size_bytes = 0
        while self._waiting:
            first = self._waiting[0]
            if isinstance(first, Message):
                events += first.header.n
                size_bytes += size_of(first)
                if events > first.header.n and (events > most_events or size_bytes > most_bytes):
                    break
                self._taken_bytes += size_of(first)
            taken.append(self._waiting.popleft())
        if not self._waiting:
            taken.extend(self._after.values())
            self._after.clear()
        self._unbooked += [each for each in taken if isinstance(each, Entry)]
        return taken

    def booked(self, books: Iterable[Book]) -> None:
        """Count no longer as dropped here what these books tell of."""
        if self._unbooked:
            reached = {book.key: book.next_seq for book in books}
            self._unbooked = [each for each in self._unbooked if each.book.next_seq > reached.get(each.book.key, -1)]

    def release(self, taken: Iterable[Message | Entry]) -> None:
        """Count no longer what was taken out."""
        for each in taken:
            if isinstance(each, Message):
                self._taken_bytes -= size_of(each)
                self._forget(each)
        self._unbooked.clear()

    def _forget(self, message: Message) -> None:
        key = StreamKey(message.header.source_id, message.header.tid)
        self.size_bytes -= size_of(message)
        self.events -= message.header.n
        left = self._pending.pop(key, 0) - message.header.n
        if left > 0:
            self._pending[key] = left

    def pending(self) -> dict[StreamKey, int]:
        """Return of each stream how many events wait or have been taken out."""
        return dict(self._pending)

    def overflowed(self) -> dict[StreamKey, int]:
        """Return of each stream how many events were dropped that no book tells of yet."""
        counted: dict[StreamKey, int] = {}
        for entry in (*self._unbooked, *self._before.values(), *self._after.values(), *self._waiting):
            if isinstance(entry, Entry):
                key = entry.book.key
                counted[key] = counted.get(key, 0) + entry.book.overflowed
        return counted

    def clear(self) -> None:
        """Drop everything."""
        for each in (self._waiting, self._before, self._after, self._pending, self._unbooked):
            each.clear()
        self._taken_bytes = self.size_bytes = self.events = 0


def _add(entries: dict[StreamKey, Entry], later: Entry) -> None:
    before = entries.pop(later.book.key, None)
    entries[later.book.key] = before.then(later) if before else later
    if len(entries) > MAX_OVERFLOWED_STREAMS:
        # Only hostile numbers of sources get here. What is dropped shows up in the books as lost on the way.
        del entries[next(iter(entries))]
