"""MongoDB: events as documents of a server, ``mongodb://host/database.collection``.

The store is made without asking the server, which may be away: what is received meanwhile waits in the sink's queue.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Sequence
from typing import ClassVar, NoReturn

import pymongo
from pymongo.errors import PyMongoError

from eventstorm_sinks.batch import Batch, Book, StreamKey
from eventstorm_sinks.settings import SinkSettings
from eventstorm_sinks.share import Share
from eventstorm_sinks.stores import StoreUnavailable
from eventstorm_sinks.stores.mongodb._archive import MongoArchive, MongoSrvArchive, Part
from eventstorm_sinks.stores.mongodb._connect import guarded, is_unavailable
from eventstorm_sinks.stores.mongodb._journal import Journal
from eventstorm_sinks.stores.mongodb._late import Span
from eventstorm_sinks.stores.mongodb._reader import MongoReader

__all__ = ["MongoReader", "MongoSrvStore", "MongoStore"]

logger = logging.getLogger("eventstorm.mongodb")

# How long the last look for what came late may take: less than a sink waits for its stores to close.
_LAST_LOOK_S = 2.0


class MongoStore(MongoArchive):
    """Events as documents ``{_id, ts, topic, source, data}``. A `Store` and a `Reader`.

    ``data`` is the user's document to the byte. ``_id`` is the event's identity, 24 bytes, so that an event that is
    sent again is not stored again. Beside the collection lies another with ``_books`` after its name: the books, and
    the journal that keeps them in step, see `eventstorm_sinks.stores.mongodb._journal`.
    """

    archive: ClassVar[type[MongoArchive]] = MongoArchive

    @staticmethod
    def why_not_shared(location: str) -> str:
        """Return nothing: each share has a journal of its own."""
        return ""

    def __init__(self, location: str, settings: SinkSettings) -> None:
        """Read the URI.

        Raises:
            StartError: it is not understood; the message tells why, without the password.
        """
        super().__init__(location, settings)
        share = Share.parse(settings.share, settings.share_by, "sink.share")
        self._journal = Journal(self._books, self._layout.collection, share)
        # Held by whoever uses the journal. A write that hangs is left behind when a sink ends, and still has it then.
        self._uses_journal = threading.Lock()
        if settings.keep_size:
            logger.warning("%s: keep_size is not kept: MongoDB removes by age alone; set keep", self._connection.name)

    @classmethod
    def open_to_read(cls, location: str, settings: SinkSettings) -> MongoArchive:
        """Read beside a sink that writes."""
        return cls.archive(location, settings)

    @classmethod
    def open_to_insert(cls, location: str, settings: SinkSettings) -> MongoArchive:
        """Insert beside a sink that writes."""
        return cls.archive(location, settings)

    def write(self, batches: Sequence[Batch], books: Sequence[Book], forget: Sequence[StreamKey] = ()) -> None:
        """Write the events and their books as if in one transaction; see `Store.write` and the journal."""
        try:
            with guarded(self._connection.name), self._uses_journal:
                self._journal.open()
                spans, parts = self._plan(batches)
                marks = {key: span.stop for key, span in spans.items()}
                if spans:
                    for name in {name for span in spans.values() for name in span.collections}:
                        self._layout.prepare(name)
                    self._journal.intend(list(spans.values()))
                    try:
                        self._insert_all(parts)
                    except (PyMongoError, ValueError) as error:
                        self._give_up(error, batches)
                for _, batch, events in parts:
                    self._journal.inserted(batch.key, events.seqs)
                try:
                    self._journal.commit(marks, books, forget)
                except (PyMongoError, ValueError) as error:
                    if not is_unavailable(error):
                        self._journal.undo()
                    raise
        except StoreUnavailable:
            self._journal.distrust()
            self._layout.forget_prepared()
            raise
        self._hangups = 0

    def _plan(self, batches: Sequence[Batch]) -> tuple[dict[StreamKey, Span], list[Part]]:
        """Return what is not stored yet: which numbers of each stream, and which events go where."""
        spans: dict[StreamKey, Span] = {}
        parts: list[Part] = []
        for batch in batches:
            span = spans.get(batch.key)
            events = batch.events.since(span.stop if span else self._journal.marks.get(batch.key, 0))
            if not events:
                continue
            found = self._parts(batch, events)
            parts += found
            names = dict.fromkeys((*(span.collections if span else ()), *(name for name, _, _ in found)))
            first = span.first if span else events.seqs[0]
            spans[batch.key] = Span(batch.key, batch.topic, first, events.seqs[-1] + 1, tuple(names))
        return spans, parts

    def _give_up(self, error: Exception, batches: Sequence[Batch]) -> NoReturn:
        """Raise for a failed insertion: the error, if it passes by itself, else what is wrong with the events."""
        cause = self._cause(error, batches)
        if cause is not error:
            self._journal.undo()
        raise cause from error

    def books(self) -> list[Book]:
        """Return the books last written; makes the indexes and finishes what an earlier sink left.

        Raises:
            StoreUnavailable: the server is away, or what is there keeps the indexes from being made.
        """
        with guarded(self._connection.name, whatever=True), self._uses_journal:
            self._journal.open()
            if self._settings.mongodb_collections == "one":
                self._layout.prepare(self._connection.collection)
            return self._journal.books()

    def maintain(self) -> None:
        """Drop the collections of days that are past keeping. Single events are removed by the server itself.

        Each time it has `sql_timeout_s`, as questions have, after which the server is told to end it too. Indexes that
        somebody dropped are made anew by the next write.
        """
        self._layout.forget_prepared()
        limit = pymongo.timeout(self._settings.sql_timeout_s)
        with guarded(self._connection.name), limit, contextlib.ExitStack() as duties:
            # Each is done whatever becomes of the others, and last the first one here, which may take long.
            duties.callback(self._remove_late)
            duties.callback(self._drop_old_days)
            duties.callback(self._journal.remove_gone)

    def _remove_late(self) -> None:
        with self._uses_journal:
            self._journal.remove_late()

    def _drop_old_days(self) -> None:
        for name in self._layout.drop_old_days(int(time.time() * 1000)):
            logger.info("%s: dropped %s by age", self._connection.name, name)

    def close(self) -> None:
        """Look once more for what came late, and close the connections. A second call does nothing.

        A sink that has taken over from another may end before its first `maintain`.
        """
        if self._uses_journal.acquire(blocking=False):
            try:
                with contextlib.suppress(PyMongoError), pymongo.timeout(_LAST_LOOK_S):
                    self._journal.remove_late()
            finally:
                self._uses_journal.release()
        super().close()


class MongoSrvStore(MongoStore):
    """The same, for ``mongodb+srv://``: the servers' names are looked up in DNS."""

    scheme = "mongodb+srv"
    archive = MongoSrvArchive
