"""What travels from the receiver to the stores: batches of one source and topic, and the books kept of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from eventstorm.wire import Event, Events, event_id

__all__ = ["Batch", "Book", "Source", "StoredEvent", "StreamKey"]


class Source(NamedTuple):
    """One incarnation of a source."""

    id: bytes
    """12 bytes, new at every start of the source."""
    host: str
    service: str
    pid: int


class StreamKey(NamedTuple):
    """What numbers run in: one topic of one incarnation of a source."""

    source_id: bytes
    tid: int


@dataclass(frozen=True, slots=True)
class Batch:
    """Events of one topic from one source, on their way into a store."""

    topic: str
    source: Source
    tid: int
    events: Events
    """In the order of their numbers, none twice."""

    @property
    def key(self) -> StreamKey:
        """The stream that the events' numbers count in."""
        return StreamKey(self.source.id, self.tid)

    def id_of(self, event: Event) -> bytes:
        """Return the identity of one of the events: 24 bytes."""
        return event_id(self.source.id, self.tid, event.seq)


@dataclass(frozen=True, slots=True)
class Book:
    """The account of one stream in one store, as of the last thing that happened to it.

    Of the numbers from `first_seq` up to `next_seq`, each is in exactly one of `stored`, `refused`, `overflowed`,
    `lost_source` and `lost_way`: ``next_seq - first_seq`` is their sum. A store writes its books in the same
    transaction as the events, so that after a crash both tell of the same moment, and what was lost in between shows
    as a gap.
    """

    topic: str
    source: Source
    tid: int
    first_seq: int
    """Where this store began to listen."""
    next_seq: int
    drop: int
    """The source's own count of dropped events, as it last said."""
    stored: int = 0
    refused: int = 0
    """By the store, since it cannot hold them."""
    overflowed: int = 0
    """Dropped in front of the store, whose queue was full."""
    lost_source: int = 0
    """Dropped in the source."""
    lost_way: int = 0
    """Lost between the source and here, or here when this process died before they were stored."""
    last_at_ms: int = 0
    closed: bool = False
    """The source said goodbye."""

    @property
    def key(self) -> StreamKey:
        """The stream that this is the account of."""
        return StreamKey(self.source.id, self.tid)


class StoredEvent(NamedTuple):
    """An event as a store gives it back."""

    id: bytes
    ts_ms: int
    topic: str
    source: Source
    data: bytes
    """The user's document as BSON, equal to the one that was emitted."""
