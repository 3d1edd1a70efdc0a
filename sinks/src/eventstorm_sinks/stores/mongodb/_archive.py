"""Inserting: many documents at a time, by one thread or several, and what it means when some are not taken."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, ClassVar

from pymongo.errors import ConnectionFailure, OperationFailure, PyMongoError, WriteConcernError

from eventstorm.wire import Events
from eventstorm_sinks.batch import Batch, Book
from eventstorm_sinks.settings import SinkSettings, parse_duration
from eventstorm_sinks.stores import StoreUnavailable
from eventstorm_sinks.stores.mongodb._books import note_copied, put_books, read_books
from eventstorm_sinks.stores.mongodb._connect import Connection, guarded, is_unavailable
from eventstorm_sinks.stores.mongodb._envelope import Documents, encode_events, envelope_bytes, first_invalid
from eventstorm_sinks.stores.mongodb._layout import Layout
from eventstorm_sinks.stores.mongodb._reader import MongoReader

__all__ = ["MongoArchive", "MongoSrvArchive", "Part"]

# What one insertion holds: a server takes its time by the document, so that larger ones gain nothing. No server takes
# less; one event may be larger than all these bytes.
_MAX_EVENTS, _MAX_BYTES = 1_000, 8 * 2**20
# What every release says by maxBsonObjectSize. The driver refuses what a server with a lower limit would not take.
_MAX_EVENT_BYTES = 16 * 2**20
_DUPLICATE_KEY = 11000
# A server that hangs up on the same insertion so often, and answers otherwise, has something against what is in it.
_MOST_HANGUPS = 3

Part = tuple[str, Batch, Events]
"""A collection's name, and events of a batch that go there."""


class MongoArchive(MongoReader):
    """What events are copied into and from, beside a sink that writes: the journal is not touched. An `Archive`."""

    scheme: ClassVar[str] = "mongodb"

    def __init__(self, location: str, settings: SinkSettings) -> None:
        """Read the URI.

        Raises:
            StartError: it is not understood; the message tells why, without the password.
        """
        connection = Connection.of(f"{self.scheme}:{location}")
        keep_s = parse_duration(settings.keep, "sink.keep")
        layout = Layout(connection.database, connection.collection, settings.mongodb_collections, keep_s)
        super().__init__(connection, layout, settings)
        self._books = connection.database[f"{connection.collection}_books"]
        # A thread more has its price in Python, where only one runs at a time: none unless it is asked for.
        writers = settings.mongodb_writers
        self._pool = ThreadPoolExecutor(writers, "eventstorm-mongodb-insert") if writers > 1 else None
        self._hangups = 0

    def insert(self, batches: Sequence[Batch], books: Sequence[Book]) -> None:
        """Insert events, those that are there already excepted, and replace books; see `Archive.insert`."""
        try:
            with guarded(self._connection.name):
                parts = [part for batch in batches if batch.events for part in self._parts(batch, batch.events)]
                for name in {name for name, _, _ in parts}:
                    self._layout.prepare(name)
                note_copied(self._books, batches, books)
                self._insert_while_answered(parts, batches)
                put_books(self._books, books)
        except StoreUnavailable:
            self._layout.forget_prepared()
            raise
        self._hangups = 0

    def books(self) -> list[Book]:
        """Return the books last written."""
        with guarded(self._connection.name, whatever=True):
            return read_books(self._books)

    def _insert_while_answered(self, parts: Sequence[Part], batches: Sequence[Batch]) -> None:
        """Insert; again where the server hung up but answers, until it is clear whether the events are at fault."""
        while True:
            before = self._hangups
            try:
                self._insert_all(parts)
                return
            except (PyMongoError, ValueError) as error:
                cause = self._cause(error, batches)
                if cause is not error or self._hangups <= before:
                    raise cause from error

    def _parts(self, batch: Batch, events: Events) -> list[Part]:
        """Say which events go where.

        Raises:
            ValueError: one is too large.
        """
        length = max(map(len, events.documents)) + envelope_bytes(batch)
        if length > _MAX_EVENT_BYTES:
            raise ValueError(f"an event of {length} bytes as stored; MongoDB takes {_MAX_EVENT_BYTES}")
        return [(name, batch, part) for name, part in self._layout.parts(batch, events)]

    def _insert_all(self, parts: Sequence[Part]) -> None:
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

    def _insert(self, name: str, documents: Documents) -> None:
        """Insert some documents; those that are there already are stored, and left as they are.

        By the command itself, since `insert_many` looks at each document in Python, which takes longer than all else.
        """
        database = self._connection.database
        concern = database.write_concern.document
        answer = database.command("insert", name, documents=[documents], ordered=False, writeConcern=concern)
        if failed := answer.get("writeConcernError"):
            raise WriteConcernError(failed.get("errmsg", ""), failed.get("code"), failed)
        errors = self._not_stored(name, documents, answer.get("writeErrors", ()))
        for error in (OperationFailure(each.get("errmsg", ""), each.get("code")) for each in errors):
            if is_unavailable(error):
                raise error
        if errors:
            raise ValueError(f"{len(errors)} events refused, the first since: {errors[0].get('errmsg')}")

    def _not_stored(self, name: str, documents: Documents, errors: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
        """Leave out the errors that say that the event is there already.

        A duplicate under another unique index, which somebody made, is an event that is not stored. Servers that do
        not tell which index it was are asked for the event.
        """
        left = [each for each in errors if not _is_stored(each)]
        doubtful = [each for each in left if each.get("code") == _DUPLICATE_KEY and "keyPattern" not in each]
        if not doubtful:
            return left
        identities = documents.identities()
        ids = {each["index"]: identities[each["index"]] for each in doubtful}
        found = self._connection.database[name].find({"_id": {"$in": list(ids.values())}}, {"_id": 1})
        there = {each["_id"] for each in found}
        return [each for each in left if ids.get(each["index"]) not in there]

    def _cause(self, error: Exception, batches: Sequence[Batch]) -> Exception:
        """Return why an insertion failed: the error, if it passes by itself, else what is wrong with the events."""
        at_fault = "" if not is_unavailable(error) else self._fault(error, batches)
        if is_unavailable(error) and not at_fault:
            return error
        return ValueError(at_fault or str(error)[:500])

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

    def close(self) -> None:
        """Close the connections. A second call does nothing."""
        if self._pool is not None:
            self._pool.shutdown(wait=False, cancel_futures=True)
        super().close()


class MongoSrvArchive(MongoArchive):
    """The same, for ``mongodb+srv://``: the servers' names are looked up in DNS."""

    scheme = "mongodb+srv"


def _insertions(parts: Sequence[Part]) -> Iterator[tuple[str, Documents]]:
    """Yield the documents of each insertion with the name of their collection; small batches go together."""
    open_ones: dict[str, tuple[list[bytes], int, int]] = {}
    for name, batch, events in parts:
        for piece, size_bytes in _pieces(events):
            pieces, before, before_bytes = open_ones.get(name, ([], 0, 0))
            if pieces and (before + len(piece) > _MAX_EVENTS or before_bytes + size_bytes > _MAX_BYTES):
                yield name, Documents(b"".join(pieces))
                pieces, before, before_bytes = [], 0, 0
            pieces.append(encode_events(batch, piece))
            open_ones[name] = pieces, before + len(piece), before_bytes + size_bytes
    for name, (pieces, _, _) in open_ones.items():
        yield name, Documents(b"".join(pieces))


def _pieces(events: Events) -> Iterator[tuple[Events, int]]:
    """Cut a batch into pieces that fit an insertion, each with the bytes of its users' documents."""
    first, size_bytes = 0, 0
    for number, length in enumerate(map(len, events.documents)):
        if number > first and (number - first >= _MAX_EVENTS or size_bytes + length > _MAX_BYTES):
            yield events[first:number], size_bytes
            first, size_bytes = number, 0
        size_bytes += length
    yield events[first:], size_bytes


def _is_stored(error: Mapping[str, Any]) -> bool:
    """Tell whether an error says by itself that the event is there already."""
    return error.get("code") == _DUPLICATE_KEY and "_id" in error.get("keyPattern", ())
