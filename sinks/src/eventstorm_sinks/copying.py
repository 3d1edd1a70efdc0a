"""Copying events from one store into another, so that it can be broken off at any point and done again.

Both stores give their events in the same order, of time and then identity. So one walk along both tells what the target
lacks, and nothing has to be remembered between two runs.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any, Protocol

from eventstorm.errors import EventstormError
from eventstorm.topics import subscription, wire_topic
from eventstorm.wire import Events
from eventstorm_sinks._bounded_log import BoundedLog
from eventstorm_sinks.batch import Batch, Book, Source, StoredEvent, StreamKey
from eventstorm_sinks.copied_books import CopiedBooks
from eventstorm_sinks.ledger import REMAINDER_TID
from eventstorm_sinks.stores import Archive, Readable, StoreUnavailable
from eventstorm_sinks.stores.where import Condition

__all__ = ["Copied", "Selection", "copy_events"]

log = logging.getLogger(__name__)

# What is inserted at a time: large, since a store that makes a file of each has few then.
_MOST_EVENTS, _MOST_BYTES = 50_000, 32 * 2**20
_FIRST_RETRY_S, _LAST_RETRY_S = 0.1, 5.0
_Position = tuple[float, bytes]
"""A time and an identity."""
_BEGIN: _Position = (-math.inf, b"")
_MOST_SEQ = 2**63 - 1
# A store that takes nothing at all is at fault itself, and not the events.
_MOST_REFUSED = 1_000
_EVENTS_A_NOTICE = 512


@dataclass(frozen=True, slots=True)
class Selection:
    """Which events are copied."""

    topics: tuple[str, ...] = ()
    """Topics, or subtrees as ``http.``; none are all."""
    start_ms: int | None = None
    stop_ms: int | None = None
    where: tuple[Condition, ...] = ()
    """What all has to hold of an event."""

    def is_whole(self) -> bool:
        """Tell whether whole streams are chosen: an account is of all numbers of its stream, and cannot be cut."""
        return self.start_ms is None and self.stop_ms is None and not self.where

    def chooser(self) -> Callable[[str], bool]:
        """Return a function that tells whether a topic is chosen."""
        prefixes = tuple(map(subscription, self.topics))
        known: dict[str, bool] = {}

        def chooses(topic: str) -> bool:
            found = known.get(topic)
            if found is None:
                found = known[topic] = wire_topic(topic).startswith(prefixes)
            return found

        return chooses if prefixes else lambda topic: True

    def named(self) -> tuple[str, ...]:
        """Return the topics to ask a store for; none if there are subtrees among them, which it does not know."""
        return self.topics if all(subscription(each).endswith(b"\0") for each in self.topics) else ()


@dataclass(slots=True)
class Copied:
    """What became of it so far."""

    read: int = 0
    """Events that the source gave."""
    copied: int = 0
    there: int = 0
    """Events that the target had before."""
    refused: int = 0
    """Events that the target cannot hold, or that are none."""
    size_bytes: int = 0
    """Of the documents that were copied."""
    books: int = 0
    """Accounts of streams that were written."""
    books_left: int = 0
    """Accounts that stay as they are in the target, since it has its own."""
    last_ms: int | None = None
    """The time of the last event read."""


class Notice(Protocol):
    """Is told now and then how far it is; may raise to end it."""

    def __call__(self, copied: Copied) -> object:
        """Look at the counts."""


@dataclass(slots=True)
class _Part:
    """Events on their way, in their order."""

    events: list[StoredEvent] = field(default_factory=list)
    size_bytes: int = 0

    def add(self, event: StoredEvent) -> None:
        self.events.append(event)
        self.size_bytes += len(event.data)

    def is_full(self) -> bool:
        return len(self.events) >= _MOST_EVENTS or self.size_bytes >= _MOST_BYTES


def copy_events(
    source: Readable,
    target: Archive,
    selection: Selection,
    done: Copied,
    *,
    patience_s: float,
    notice: Notice = lambda copied: None,
) -> None:
    """Copy the chosen events that the target does not have, and the books if all times are chosen, under no conditions.

    Args:
        source: where they are; only read.
        target: where they go. Written by another thread than the caller's.
        selection: which.
        done: counts what becomes of them; right too when this raises.
        patience_s: how long to wait for one of them that is away, while nothing goes on.
        notice: see `Notice`.

    Raises:
        StoreUnavailable: one of the stores is away. What was copied stays, and a further call goes on.
        EventstormError: the source cannot be read.
    """
    with ThreadPoolExecutor(1, "eventstorm-copy") as pool:
        copy = _Copy(source, target, selection, done, pool, notice)
        wait_s, give_up_s, moved = _FIRST_RETRY_S, time.monotonic() + patience_s, 0
        while True:
            try:
                copy.go_on()
                return
            except StoreUnavailable as error:
                if copy.moved > moved:
                    wait_s, give_up_s, moved = _FIRST_RETRY_S, time.monotonic() + patience_s, copy.moved
                if time.monotonic() + wait_s > give_up_s:
                    raise
                copy.log.warning("away", "trying again: %s", error)
            time.sleep(wait_s)  # the server needs its time; Ctrl-C ends it
            wait_s = min(wait_s * 2, _LAST_RETRY_S)


class _Copy:
    def __init__(
        self,
        source: Readable,
        target: Archive,
        selection: Selection,
        done: Copied,
        pool: ThreadPoolExecutor,
        notice: Notice,
    ) -> None:
        self._source, self._target, self._selection, self._notice = source, target, selection, notice
        self._pool = pool
        self._chooses = selection.chooser()
        self._books: CopiedBooks | None = None
        self._at: _Position = _BEGIN
        self._seen: _Position = _BEGIN
        """Up to where everything is in the target, and up to where events were counted."""
        self._refused_in_a_row = 0
        self.done = done
        self.moved = 0
        """How often something was inserted."""
        self.log = BoundedLog(log)

    def go_on(self) -> None:
        """Copy from where it is to the end.

        Raises:
            StoreUnavailable: one of the stores is away.
        """
        books = self._open_books()
        pending: Future[None] | None = None
        part = _Part()
        try:
            with closing(self._missing()) as events:
                for event in events:
                    part.add(event)
                    if part.is_full():
                        if pending is not None:
                            pending.result()
                        pending = self._pool.submit(self._insert, part.events, books)
                        part = _Part()
        except BaseException:
            # Nothing is under way when this ends. And what ends it counts: Ctrl-C, say, and not what that store tells.
            if pending is not None:
                wait([pending])
            raise
        if pending is not None:
            pending.result()
        self._pool.submit(self._insert, part.events, books).result()
        rest, left = books.rest()
        self._pool.submit(self._put_books, rest, books).result()
        # Also by attempts of which it was not known whether they inserted.
        self.done.copied = self.done.read - self.done.there - self.done.refused
        self.done.books_left = left
        self._notice(self.done)

    def _open_books(self) -> CopiedBooks:
        if self._books is None:
            chosen = []
            if self._selection.is_whole():
                chosen = [book for book in self._source.books() if self._chooses(book.topic)]
            books = CopiedBooks(chosen, self._target.books() if chosen else [])
            self._pool.submit(self._put_books, books.sums(), books).result()
            self._books = books
        return self._books

    def _missing(self) -> Generator[StoredEvent, None, None]:
        """Yield the events that the source has and the target has not."""
        named, start_ms, stop_ms = self._selection.named(), self._selection.start_ms, self._selection.stop_ms
        where = self._selection.where
        if self._at != _BEGIN:
            start_ms = int(self._at[0])
        with (
            closing(_generator(self._source.read(named, start_ms, stop_ms, where))) as theirs,
            closing(_generator(self._target.read(named, start_ms, stop_ms, where))) as ours,
        ):
            there = _key(next(ours, None))
            before: _Position = self._at
            for event in theirs:
                at = _key(event)
                if at <= before:
                    if at < before and before != self._at:
                        raise EventstormError("the source does not give its events in the order of time")
                    continue
                before = at
                if not self._chooses(event.topic):
                    continue
                is_new = at > self._seen
                if is_new:
                    self._seen = at
                    self.done.read += 1
                    self.done.last_ms = event.ts_ms
                    if not self.done.read % _EVENTS_A_NOTICE:
                        self._notice(self.done)
                while there < at:
                    there = _key(next(ours, None))
                if there != at:
                    yield event
                elif is_new:
                    self.done.there += 1

    def _insert(self, events: list[StoredEvent], books: CopiedBooks) -> None:
        """Insert events; where the target cannot hold something, halve until only that is left."""
        if not events:
            return
        whole = [event for event in events if _is_whole(event)]
        batches = _batches(whole)
        new = books.beginning(batch.key for batch in batches)
        try:
            if len(whole) < len(events):
                raise ValueError("its identity is none, or that of another source")
            self._target.insert(batches, new)
        except StoreUnavailable:
            raise
        except Exception as error:
            if len(events) > 1:
                middle = len(events) // 2
                self._insert(events[:middle], books)
                self._insert(events[middle:], books)
                return
            self._refuse(events[0], error, books)
        else:
            books.wrote(new)
            self._refused_in_a_row = 0
            self.done.books += len(new)
            self.done.copied += len(events)
            self.done.size_bytes += sum(len(event.data) for event in events)
        self.moved += 1
        self._at = _key(events[-1])

    def _refuse(self, event: StoredEvent, error: Exception, books: CopiedBooks) -> None:
        self.done.refused += 1
        self._refused_in_a_row += 1
        books.refused(StreamKey(event.source.id, _tid(event)))
        self.log.warning("refused", "left out event %s of %s: %.300s", event.id.hex(), event.topic, error)
        if self._refused_in_a_row >= _MOST_REFUSED:
            raise EventstormError(f"the target refused {_MOST_REFUSED} events in a row, the last since: {error}")

    def _put_books(self, found: list[Book], books: CopiedBooks) -> None:
        if found:
            self._target.insert([], found)
            books.wrote(found)
            self.done.books += len(found)


def _generator(events: Iterator[StoredEvent]) -> Generator[StoredEvent, Any, Any]:
    """Return an iterator that can be closed."""
    return events if isinstance(events, Generator) else (event for event in events)


def _key(event: StoredEvent | None) -> _Position:
    """Return what events are ordered by; after the last comes the end of time."""
    return (event.ts_ms, event.id) if event is not None else (math.inf, b"")


def _tid(event: StoredEvent) -> int:
    return int.from_bytes(event.id[12:16], "big")


def _seq(event: StoredEvent) -> int:
    return int.from_bytes(event.id[16:], "big")


def _is_whole(event: StoredEvent) -> bool:
    """Tell whether the identity is that of an event of this source: what files say may be anything."""
    return (
        len(event.id) == 24
        and event.id[:12] == event.source.id
        and _tid(event) < REMAINDER_TID
        and _seq(event) <= _MOST_SEQ
    )


def _batches(events: list[StoredEvent]) -> list[Batch]:
    """Put the events of each stream together, in the order of their numbers."""
    streams: dict[tuple[str, Source, int], list[StoredEvent]] = {}
    for event in events:
        streams.setdefault((event.topic, event.source, _tid(event)), []).append(event)
    batches = []
    for (topic, source, tid), found in streams.items():
        found.sort(key=lambda event: event.id)
        columns = Events([*map(_seq, found)], [event.ts_ms for event in found], [event.data for event in found])
        batches.append(Batch(topic, source, tid, columns))
    return batches
