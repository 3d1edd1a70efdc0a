"""Writing: one bounded queue and one thread per store, so that a store that is down or slow never stops the others."""

from __future__ import annotations

import logging
import random
import re
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from eventstorm.wire import Message
from eventstorm_sinks._bounded_log import BoundedLog
from eventstorm_sinks._memory import Backlog
from eventstorm_sinks.batch import Book, Source, StreamKey
from eventstorm_sinks.books import Books, Entry, Posting
from eventstorm_sinks.own_events import Loss, LossLog
from eventstorm_sinks.queue import Queue
from eventstorm_sinks.share import WHOLE, Share
from eventstorm_sinks.stores import Store, StoreUnavailable

__all__ = ["StoreAccount", "Writer", "WriterStats"]

log = logging.getLogger(__name__)

# A write takes no more of the queue than this part of it, so that while it lasts most of the room is for what arrives.
LARGEST_WRITE = 0.25
FIRST_RETRY_S, LAST_RETRY_S = 0.1, 5.0
MAINTAIN_S = 60.0
# A stream that has no book yet is committed sooner: a process that dies before does not know, when it comes back, where
# it began to listen. Not at once, since many short programs may come at the same time.
FIRST_COMMIT_S = 0.05


@dataclass(frozen=True, slots=True)
class WriterStats:
    """What a writer has done since it was made."""

    url: str
    queue_bytes: int
    pending: int
    """Events that wait, or are being written."""
    stored: int
    refused: int
    overflowed: int
    commits: int
    last_error: str
    """Of the last write, if it failed; empty when the store works."""
    writing_s: float
    """How long the write that is under way has taken; 0 if there is none."""


@dataclass(frozen=True, slots=True)
class StoreAccount:
    """Where one stream stands in one store."""

    book: Book | None
    """As of the last commit; None before the first."""
    pending: int
    """Events that wait, or are being written."""
    overflowed: int
    """Events that found no room since, and are not in the book yet."""


class _ClosingError(Exception):
    """There is no time left to try again."""


class Writer:
    """Takes messages from the receiver, writes them to one store in batches, and keeps the store's books.

    Args:
        url: what the store is called in logs and statistics.
        store: written by this object's thread alone; not closed by it.
        queue_bytes: may wait in memory; what arrives beyond is counted as overflowed. One message always finds room.
        commit_s: the longest that an event waits for a commit, while the store keeps up.
        batch_events: the most events in one write.
        drop_oldest: whether what waits longest is lost when the queue is full, in place of what arrives.
        share: what this sink stores, where it shares its store with others.
    """

    def __init__(
        self,
        url: str,
        store: Store,
        *,
        queue_bytes: int,
        commit_s: float,
        batch_events: int,
        drop_oldest: bool = False,
        share: Share = WHOLE,
    ) -> None:
        self.url = url
        self.store = store
        self._queue_bytes, self._commit_s, self._batch_events = queue_bytes, commit_s, batch_events
        self._batch_bytes = int(queue_bytes * LARGEST_WRITE)
        self._dropped = "oldest" if drop_oldest else "newest"
        self._share = share
        try:
            self._books, self._knows_books = Books(store.books(), share), True
        except StoreUnavailable:
            # Its server may come later. What is received until then waits in the queue, and is entered after the books.
            self._books, self._knows_books = Books((), share), False
        self._log = BoundedLog(log)
        self._changed = threading.Condition()
        # All below is guarded by the condition's lock; what the thread has taken out to write still counts as queued.
        self._queue = Queue(queue_bytes, drop_oldest=drop_oldest)
        self._commit_by_s = 0.0
        """When the next write is due; counts while there is something in the queue."""
        self._stored = self._refused = self._overflowed = self._commits = 0
        self._losses = LossLog()
        self._last_error = ""
        self._write_began_s = 0.0
        self._close_by_s: float | None = None
        self._maintained_s = time.monotonic()
        self._backlog = Backlog()
        self._thread = threading.Thread(target=self._run, name=f"eventstorm-write-{url}", daemon=True)

    def books(self) -> list[Book]:
        """Return the books as of the last commit; none while the store has not been reached yet."""
        with self._changed:
            return self._books.all()

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def put(self, message: Message) -> None:
        """Queue a message, or count it as overflowed. Never waits for the store."""
        key = StreamKey(message.header.source_id, message.header.tid)
        with self._changed:
            idle = self._queue.is_empty
            dropped = self._queue.put(message)
            if dropped:
                self._count_dropped(dropped)
                if dropped[-1] is message:
                    return
            now_s = time.monotonic()
            wait_s = self._commit_s if self._books.knows(key) else min(self._commit_s, FIRST_COMMIT_S)
            sooner = idle or now_s + wait_s < self._commit_by_s
            if sooner:
                self._commit_by_s = now_s + wait_s
            if sooner or not self._is_filling():
                self._changed.notify()

    def _is_filling(self) -> bool:
        return self._queue.events < self._batch_events and self._queue.size_bytes < self._batch_bytes

    def _count_dropped(self, dropped: list[Message]) -> None:
        for message in dropped:
            header = message.header
            self._overflowed += header.n
            source = Source(header.source_id, header.host, header.service, header.pid)
            self._losses.add(Loss(message.topic, source, "store", "overflow", self.url), header.n)
        self._log.warning(
            "overflow", "%s: more than %d bytes wait for this store; the %s events are lost to it: %s",
            self.url, self._queue_bytes, self._dropped, self._last_error or "it is too slow",
        )  # fmt: skip

    def stats(self) -> WriterStats:
        """Return the counters. Safe from any thread."""
        with self._changed:
            return WriterStats(
                self.url,
                self._queue.size_bytes,
                self._queue.events,
                self._stored,
                self._refused,
                self._overflowed,
                self._commits,
                self._last_error,
                time.monotonic() - began_s if (began_s := self._write_began_s) else 0.0,
            )

    def accounts(self) -> dict[StreamKey, StoreAccount]:
        """Return where each stream stands in this store. Safe from any thread."""
        with self._changed:
            books = {book.key: book for book in self._books.all()}
            pending, overflowed = self._queue.pending(), self._queue.overflowed()
            return {
                key: StoreAccount(books.get(key), pending.get(key, 0), overflowed.get(key, 0))
                for key in {*books, *pending, *overflowed}
            }

    def take_losses(self) -> list[tuple[Loss, int]]:
        """Return what was lost here since the last call. Safe from any thread."""
        with self._changed:
            return self._losses.take()

    def close(self, timeout_s: float) -> int:
        """Write what waits, for so long at most; stop, and return how many events were left and are lost."""
        with self._changed:
            self._close_by_s = time.monotonic() + timeout_s
            self._changed.notify()
        if self._thread.ident is not None:
            # A write that hangs in the store cannot be interrupted: then the (daemon) thread is left behind.
            self._thread.join(timeout_s + 0.5)
        with self._changed:
            left = self._queue.events
            self._overflowed += left
            self._queue.clear()
        if left:
            log.warning("%s: stopped with %d events unwritten: %s", self.url, left, self._last_error or "too slow")
        return left

    # From here on: the writer's thread.

    def _run(self) -> None:
        while True:
            try:
                if not self._knows_books:
                    self._learn_books()
                if not self._write_next():
                    return
                self._backlog.give_back(self._queue.size_bytes)
                self._maintain_if_due()
            except _ClosingError:
                return

    def _learn_books(self) -> None:
        """Wait for a store that was away at the start."""

        def learn() -> None:
            books = Books(self.store.books(), self._share)
            with self._changed:
                self._books, self._knows_books, self._last_error = books, True, ""

        self._retrying(learn, lambda: not self._queue)

    def _take(self) -> list[Message | Entry] | None:
        """Wait for a batch to fill up or its time to come. None when closing and all is written."""
        with self._changed:
            while not self._queue:
                if self._close_by_s is not None:
                    return None
                until_maintenance_s = self._maintained_s + MAINTAIN_S - time.monotonic()
                if until_maintenance_s <= 0:
                    return []
                self._changed.wait(until_maintenance_s)
            while not self._queue.is_empty and self._is_filling() and self._close_by_s is None:
                wait_s = self._commit_by_s - time.monotonic()
                if wait_s <= 0:
                    break
                self._changed.wait(wait_s)
            self._backlog.note(self._queue.size_bytes)
            return self._queue.take(self._batch_events, self._batch_bytes)

    def _write_next(self) -> bool:
        """Write what comes next, and keep nothing of it; tell whether there may be more."""
        taken = self._take()
        if taken:
            self._write_taken(taken)
        return taken is not None

    def _write_taken(self, taken: list[Message | Entry]) -> None:
        try:
            entries = [Entry.of(each) if isinstance(each, Message) else each for each in taken]
            together: list[Entry] = []
            for entry in entries:
                while len(entry.events) > self._batch_events:  # one message that is larger than a batch
                    first, entry = entry.split(self._batch_events)
                    self._write([*together, first])
                    together = []
                together.append(entry)
            self._write(together)
            if (fold := self._books.fold()) is not None:
                self._retrying(lambda: self._commit(fold))
        except _ClosingError:
            raise
        except Exception:
            # Not the store's fault but ours. The books will show these events as lost on the way.
            log.exception("%s: a fault in Eventstorm itself", self.url)
        with self._changed:
            self._queue.release(taken)

    def _write(self, entries: list[Entry]) -> None:
        """Write all; where the store cannot hold something, halve until only that is left, and refuse it."""
        if len(entries) == 1 and len(entries[0].events) <= 1:
            self._write_one(entries[0])
            return
        try:
            self._retrying(lambda: self._commit(self._books.post(entries)))
            return
        except _ClosingError:
            raise
        except Exception:
            log.debug("%s: looking for what cannot be stored", self.url, exc_info=True)
        if len(entries) > 1:
            middle = len(entries) // 2
            self._write(entries[:middle])
            self._write(entries[middle:])
        else:
            first, rest = entries[0].split(len(entries[0].events) // 2)
            self._write([first])
            self._write([rest])

    def _write_one(self, entry: Entry) -> None:
        """Write one event, or refuse it.

        Before an event is blamed, the store has to take its book without it; else the store is at fault and not the
        event, and it is tried again, as if the store were away. If the store takes neither, but takes nothing at all
        gladly, the book itself is poisonous (a host name that it cannot hold, say): then that is left out too.
        """
        causes: list[Exception] = []

        def attempt() -> None:
            causes.clear()
            for posting in (self._books.post([entry]), self._books.post([entry.refused()]), Posting([], [], [])):
                try:
                    self._commit(posting)
                    return
                except StoreUnavailable:
                    raise
                except Exception as error:
                    causes.append(error)
            raise StoreUnavailable(f"{type(causes[-1]).__name__}: {causes[-1]}") from causes[-1]

        self._retrying(attempt)
        if causes:
            self._count_refused(entry, causes[0])

    def _count_refused(self, entry: Entry, cause: Exception) -> None:
        events = len(entry.events)
        with self._changed:
            self._refused += events
            if events:
                self._losses.add(Loss(entry.book.topic, entry.book.source, "store", "refused", self.url), events)
        self._log.warning(
            type(cause).__name__,
            "%s: refused event %s of %s: %.500s",
            self.url,
            entry.book.first_seq,
            entry.book.topic,
            f"{type(cause).__name__}: {cause}",
        )

    def _retrying(self, attempt: Callable[[], None], give_up: Callable[[], bool] = lambda: False) -> None:
        """Try until the store is available. Meanwhile events pile up in the queue, then overflow.

        When closing, until the time is up, or until `give_up` says that there is no need.
        """
        wait_s = FIRST_RETRY_S
        while True:
            try:
                attempt()
                return
            except StoreUnavailable as error:
                with self._changed:
                    self._last_error = str(error) or "unavailable"
                # One kind of error does not hide another within the minute; where there is no cause, the text is ours.
                kind = type(error.__cause__).__name__ if error.__cause__ else re.sub(r"\d+", "", str(error))
                self._log.warning(kind, "%s: cannot write now, trying again: %s", self.url, error)
            # Not all sinks of a server that comes back at the same moment.
            try_at_s = time.monotonic() + wait_s * random.uniform(0.5, 1.0)
            wait_s = min(wait_s * 2, LAST_RETRY_S)
            with self._changed:
                while (now_s := time.monotonic()) < try_at_s:
                    if self._close_by_s is not None:
                        if now_s >= self._close_by_s or give_up():
                            raise _ClosingError
                        try_at_s = min(try_at_s, self._close_by_s)
                    self._changed.wait(max(try_at_s - now_s, 0.001))

    def _commit(self, posting: Posting) -> None:
        self._write_began_s = time.monotonic()
        try:
            self.store.write(posting.batches, posting.books, posting.forget)
        finally:
            self._write_began_s = 0.0
        with self._changed:
            self._books.commit(posting)
            self._queue.booked(posting.books)
            self._stored += sum(len(batch.events) for batch in posting.batches)
            self._commits += 1
            self._last_error = ""

    def _maintain_if_due(self) -> None:
        if time.monotonic() - self._maintained_s < MAINTAIN_S:
            return
        self._maintained_s = time.monotonic()
        try:
            self.store.maintain()
        except Exception as error:
            self._log.warning(
                "maintain", "%s: could not maintain the store: %s: %s", self.url, type(error).__name__, error
            )
