"""MongoDB: events as documents of a server, ``mongodb://host/database.collection``.

The store is made without asking the server, which may be away: what is received meanwhile waits in the sink's queue.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

from bson.raw_bson import RawBSONDocument
from pymongo.errors import ConnectionFailure, OperationFailure, PyMongoError, WriteConcernError

from eventstorm.wire import Events
from eventstorm_sinks.batch import Batch, Book, StreamKey
from eventstorm_sinks.settings import SinkSettings, parse_duration
from eventstorm_sinks.stores import StoreUnavailable
from eventstorm_sinks.stores.mongodb._connect import Connection, guarded, is_unavailable
from eventstorm_sinks.stores.mongodb._envelope import encode_events, envelope_bytes, first_invalid
from eventstorm_sinks.stores.mongodb._journal import Journal, Span
from eventstorm_sinks.stores.mongodb._layout import Layout
from eventstorm_sinks.stores.mongodb._reader import MongoReader

__all__ = ["MongoReader", "MongoSrvStore", "MongoStore"]

logger = logging.getLogger("eventstorm.mongodb")

# What one insertion holds: a server takes its time by the document, so that larger ones gain nothing. No server takes
# less; one event may be larger than all these bytes.
_MAX_EVENTS, _MAX_BYTES = 1_000, 8 * 2**20
# What every release says by maxBsonObjectSize. The driver refuses what a server with a lower limit would not take.
_MAX_EVENT_BYTES = 16 * 2**20
_DUPLICATE_KEY = 11000
# A server that hangs up on the same insertion so often, and answers otherwise, has something against what is in it.
_MOST_HANGUPS = 3

_Part = tuple[str, Batch, Events]
"""A collection's name, and events of a batch that go there."""


class MongoStore(MongoReader):
    """Events as documents ``{_id, ts, topic, source, data}``. A `Store` and a `Reader`.

    ``data`` is the user's document to the byte. ``_id`` is the event's identity, 24 bytes, so that an event that is
    sent again is not stored again. Beside the collection lies another with ``_books`` after its name: the books, and
    the journal that keeps them in step, see `eventstorm_sinks.stores.mongodb._journal`.
    """

    scheme = "mongodb"

    def __init__(self, location: str, settings: SinkSettings) -> None:
        """Read the URI.

        Raises:
            StartError: it is not understood; the message tells why, without the password.
        """
        connection = Connection.of(f"{self.scheme}:{location}")
        keep_s = parse_duration(settings.keep, "sink.keep")
        layout = Layout(connection.database, connection.collection, settings.mongodb_collections, keep_s)
        super().__init__(connection, layout, settings)
        self._journal = Journal(connection.database[f"{connection.collection}_books"], layout.collection)
        # A thread more has its price in Python, where only one runs at a time: none unless it is asked for.
        writers = settings.mongodb_writers
        self._pool = ThreadPoolExecutor(writers, "eventstorm-mongodb-insert") if writers > 1 else None
        self._hangups = 0
        if settings.keep_size:
            logger.warning("%s: keep_size is not kept: MongoDB removes by age alone; set keep", connection.name)

    def write(self, batches: Sequence[Batch], books: Sequence[Book], forget: Sequence[StreamKey] = ()) -> None:
        """Write the events and their books as if in one transaction; see `Store.write` and the journal."""
        try:
            with guarded(self._connection.name):
                self._journal.open()
                spans, parts = self._plan(batches)
                marks = {key: span.stop for key, span in spans.items()}
                if spans:
                    for name in {name for span in spans.values() for name in span.collections}:
                        self._layout.prepare(name)
                    self._journal.intend(spans)
                    try:
                        self._insert_all(parts)
                    except (PyMongoError, ValueError) as error:
                        self._blame(error, batches)
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

    def _plan(self, batches: Sequence[Batch]) -> tuple[dict[StreamKey, Span], list[_Part]]:
        """Return what is not stored yet: which numbers of each stream, and which events go where."""
        spans: dict[StreamKey, Span] = {}
        parts: list[_Part] = []
        for batch in batches:
            span = spans.get(batch.key)
            events = batch.events.since(span.stop if span else self._journal.marks.get(batch.key, 0))
            if not events:
                continue
            length = max(map(len, events.documents)) + envelope_bytes(batch)
            if length > _MAX_EVENT_BYTES:
                raise ValueError(f"an event of {length} bytes as stored; MongoDB takes {_MAX_EVENT_BYTES}")
            found = [(name, batch, part) for name, part in self._layout.parts(batch, events)]
            parts += found
            names = dict.fromkeys((*(span.collections if span else ()), *(name for name, _, _ in found)))
            first = span.first if span else events.seqs[0]
            spans[batch.key] = Span(first, events.seqs[-1] + 1, tuple(names))
        return spans, parts

    def _insert_all(self, parts: Sequence[_Part]) -> None:
        """Insert everything.

        Raises:
            Exception: the first error, when no insertion is under way any more.
        """
        if self._pool is None:
            for name, documents in _insertions(parts):
                self._insert(name, documents)
            return
        pending: deque[Future[None]] = deque()
        errors: list[BaseException] = []
        for name, documents in _insertions(parts):
            pending.append(self._pool.submit(self._insert, name, documents))
            if len(pending) > self._settings.mongodb_writers and (error := pending.popleft().exception()):
                errors.append(error)
                break
        errors += [error for each in pending if (error := each.exception())]
        # What says that the server is away counts more than what says that an event is at fault.
        for error in sorted(errors, key=is_unavailable, reverse=True):
            raise error

    def _insert(self, name: str, documents: list[RawBSONDocument]) -> None:
        """Insert some documents; those that are there already are stored, and left as they are.

        By the command itself, since `insert_many` looks at each document in Python, which takes longer than all else.
        """
        database = self._connection.database
        concern = database.write_concern.document
        answer = database.command("insert", name, documents=documents, ordered=False, writeConcern=concern)
        if failed := answer.get("writeConcernError"):
            raise WriteConcernError(failed.get("errmsg", ""), failed.get("code"), failed)
        errors = [each for each in answer.get("writeErrors", ()) if not _is_stored(each)]
        for error in (OperationFailure(each.get("errmsg", ""), each.get("code")) for each in errors):
            if is_unavailable(error):
                raise error
        if errors:
            raise ValueError(f"{len(errors)} events refused, the first since: {errors[0].get('errmsg')}")

    def _blame(self, error: Exception, batches: Sequence[Batch]) -> None:
        """Raise for a failed insertion: the error, if it passes by itself, else what is wrong with the events."""
        at_fault = "" if not is_unavailable(error) else self._fault(error, batches)
        if is_unavailable(error) and not at_fault:
            raise error
        self._journal.undo()
        raise ValueError(at_fault or str(error)[:500]) from error

    def _fault(self, error: Exception, batches: Sequence[Batch]) -> str:
        """Return what it is about the events that made a server hang up; an empty text if it seems to be gone."""
        if not isinstance(error, ConnectionFailure):
            return ""
        found = next(filter(None, map(first_invalid, batches)), "")
        if found:
            return found
        try:
            self._connection.client.admin.command("ping")
        except PyMongoError:
            self._hangups = 0
            return ""
        self._hangups += 1
        if self._hangups < _MOST_HANGUPS:
            return ""
        self._hangups = 0
        return f"the server answers, but hung up {_MOST_HANGUPS} times on these events: {str(error)[:200]}"

    def books(self) -> list[Book]:
        """Return the books last written; makes the indexes and finishes what an earlier sink left.

        Raises:
            StoreUnavailable: the server is away, or what is there keeps the indexes from being made.
        """
        with guarded(self._connection.name, whatever=True):
            self._journal.open()
            if self._settings.mongodb_collections == "one":
                self._layout.prepare(self._connection.collection)
            return self._journal.books()

    def maintain(self) -> None:
        """Drop the collections of days that are past keeping. Single events are removed by the server itself."""
        with guarded(self._connection.name):
            self._journal.remove_late()
            for name in self._layout.drop_old_days(int(time.time() * 1000)):
                logger.info("%s: dropped %s by age", self._connection.name, name)

    def close(self) -> None:
        """Close the connections. A second call does nothing."""
        if self._pool is not None:
            self._pool.shutdown(wait=False, cancel_futures=True)
        super().close()


class MongoSrvStore(MongoStore):
    """The same, for ``mongodb+srv://``: the servers' names are looked up in DNS."""

    scheme = "mongodb+srv"


def _insertions(parts: Sequence[_Part]) -> Iterator[tuple[str, list[RawBSONDocument]]]:
    """Yield the documents of each insertion with the name of their collection; small batches go together."""
    open_ones: dict[str, tuple[list[RawBSONDocument], int]] = {}
    for name, batch, events in parts:
        for piece, size_bytes in _pieces(events):
            documents, before_bytes = open_ones.get(name, ([], 0))
            if documents and (len(documents) + len(piece) > _MAX_EVENTS or before_bytes + size_bytes > _MAX_BYTES):
                yield name, documents
                documents, before_bytes = [], 0
            documents.extend(encode_events(batch, piece))
            open_ones[name] = documents, before_bytes + size_bytes
    for name, (documents, _) in open_ones.items():
        yield name, documents


def _pieces(events: Events) -> Iterator[tuple[Events, int]]:
    """Cut a batch into pieces that fit an insertion, each with the bytes of its users' documents."""
    first, size_bytes = 0, 0
    for number, length in enumerate(map(len, events.documents)):
        if number > first and (number - first >= _MAX_EVENTS or size_bytes + length > _MAX_BYTES):
            yield events[first:number], size_bytes
            first, size_bytes = number, 0
        size_bytes += length
    yield events[first:], size_bytes


def _is_stored(error: dict[str, object]) -> bool:
    """Tell whether an error says that the event is there already.

    A duplicate under another unique index, which somebody made, is an event that is not stored.
    """
    if error.get("code") != _DUPLICATE_KEY:
        return False
    pattern = error.get("keyPattern")
    return "_id" in pattern if isinstance(pattern, dict) else "_id" in str(error.get("errmsg"))
