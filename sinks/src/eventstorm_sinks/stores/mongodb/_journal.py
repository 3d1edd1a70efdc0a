"""The books, and how they stay in step with the events although no transaction spans both.

A write goes in four steps, each durable before the next begins:

1. *intent*: one document, the journal, says which numbers of which streams are about to be inserted, and where;
2. *insert*: the events;
3. *commit*: the journal is replaced by the new books and marks. MongoDB writes one document all or nothing, so this is
   the moment at which the write counts;
4. *apply*: the books and marks are copied from the journal to a document for each stream.

Whoever finds a journal that says *intent* removes the events of those numbers: nobody was told that they are stored.
None of them was stored by an earlier write, since a write begins after each stream's mark. Whoever finds *commit*
applies it, as often as it may be. So events and books tell of the same moment after each step and each interruption,
on a single server as on a replica set, where the steps are acknowledged by a majority.

Two things reach further than that. A server that was paused while its sink was killed may insert what it had received
*after* the next sink has removed the intent's events: therefore their numbers stay in the journal for some minutes, and
are removed again. And two sinks must not write the same journal: each signs it when it starts, and a step finds it only
under its own signature; so the last one to start is the one that writes, and the earlier one says so.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import bson
from bson.objectid import ObjectId
from bson.raw_bson import RawBSONDocument
from pymongo import DeleteOne, ReturnDocument, UpdateOne
from pymongo.collection import Collection
from pymongo.errors import DuplicateKeyError

from eventstorm_sinks.batch import Book, Source, StreamKey
from eventstorm_sinks.stores import StoreUnavailable
from eventstorm_sinks.stores.mongodb._envelope import stream_id

__all__ = ["Journal", "Span", "put_books", "read_books"]

_JOURNAL = "journal"
# Longer than a server that was paused and goes on takes for what it had received. A host that was suspended for longer
# has lost its connections.
LATE_S = 600


@dataclass(frozen=True, slots=True)
class Span:
    """Numbers of one stream, and the collections that events of theirs may lie in."""

    first: int
    stop: int
    collections: tuple[str, ...]


class Journal:
    """The journal and the streams' documents in one collection. Used by one thread.

    Args:
        collection: of its own, beside that of the events.
        events: returns a collection of events by its name.
    """

    def __init__(
        self, collection: Collection[RawBSONDocument], events: Callable[[str], Collection[RawBSONDocument]]
    ) -> None:
        self._collection, self._events = collection, events
        self._owner = ObjectId()
        self._is_mine = self._is_open = False
        self._late: dict[StreamKey, tuple[Span, float]] = {}
        self.marks: dict[StreamKey, int] = {}
        """Of each stream, the number after the last one that is stored."""
        self.unfinished: dict[StreamKey, Span] = {}
        """What this process's own last attempt may have inserted in part."""

    def open(self) -> None:
        """Sign the journal, finish or undo what it says, and learn the marks; nothing if that has been done.

        Raises:
            StoreUnavailable: another sink has signed it since.
            PyMongoError: the server is away.
        """
        if self._is_open:
            return
        found = self._sign()
        self._is_mine = True
        state = found.get("state")
        self.unfinished = {}
        if state == "commit":
            self._apply(found)
        elif state == "intent":
            spans = _spans(found["spans"])
            if found["by"] == self._owner:
                self.unfinished = spans
            else:
                self.remove(spans)
                self._late.update((key, (span, time.time() + LATE_S)) for key, span in spans.items())
        for each in found.get("late", ()):
            for key, span in _spans([each]).items():
                self._late.setdefault(key, (span, each["until_s"]))
        marked = self._collection.find({"mark": {"$exists": True}}, {"mark": 1})
        self.marks = {_key(each["_id"]): int(each["mark"]) for each in marked}
        self._is_open = True

    def _sign(self) -> dict[str, Any]:
        """Return the journal as it was before, as plain values."""
        if self._is_mine:
            mine = self._collection.find_one({"_id": _JOURNAL})
            if mine is not None and mine["owner"] != self._owner:
                raise StoreUnavailable(self._taken_over())
            return bson.decode(bytes(mine.raw)) if mine is not None else {}
        before = self._collection.find_one_and_update(
            {"_id": _JOURNAL}, {"$set": {"owner": self._owner}}, upsert=True, return_document=ReturnDocument.BEFORE
        )
        return bson.decode(bytes(before.raw)) if before is not None else {}

    def _taken_over(self) -> str:
        return (
            f"another sink has begun to write to {self._collection.full_name!r}; stop one of the two, or give each a "
            "collection of its own: mongodb://HOST/DATABASE.COLLECTION"
        )

    def distrust(self) -> None:
        """Look again what the server has, before the next write: it failed in between."""
        self._is_open = False

    def intend(self, spans: Mapping[StreamKey, Span]) -> None:
        """Say what is about to be inserted."""
        left = {key: span for key, span in self.unfinished.items() if not _covers(spans.get(key), span)}
        if left:
            self.remove(left)
        for key, span in spans.items():
            if key in self._late and span.first < self._late[key][0].stop:
                del self._late[key]
        self._replace({"state": "intent", "by": self._owner, "spans": [_listed(*each) for each in spans.items()]})
        self.unfinished = dict(spans)

    def undo(self) -> None:
        """Remove what was inserted since `intend`."""
        self.remove(self.unfinished)
        self._replace({"state": "none"})
        self.unfinished = {}

    def commit(self, marks: Mapping[StreamKey, int], books: Sequence[Book], forget: Iterable[StreamKey]) -> None:
        """Make the write count: what was inserted, the new marks, the books."""
        if self.unfinished.keys() - marks.keys():
            self.undo()
        changes: dict[StreamKey, dict[str, Any]] = {key: {"mark": mark} for key, mark in marks.items()}
        for book in books:
            changes.setdefault(book.key, {})["book"] = _document(book)
        gone = set(forget) - marks.keys()
        document: dict[str, Any] = {
            "state": "commit",
            "set": [{"_id": stream_id(key), **change} for key, change in changes.items()],
            "forget": [stream_id(key) for key in gone],
        }
        self._replace(document)
        self._apply(document)
        self.unfinished = {}
        self.marks.update(marks)
        for key in gone:
            self.marks.pop(key, None)

    def _replace(self, document: dict[str, Any]) -> None:
        late = [{**_listed(key, span), "until_s": until_s} for key, (span, until_s) in self._late.items()]
        whole = {"_id": _JOURNAL, "owner": self._owner, "late": late, **document}
        try:
            # If the journal is gone it is made anew; if it has another owner, that one is in the way.
            mine = {"_id": _JOURNAL, "owner": self._owner}
            self._collection.replace_one(mine, RawBSONDocument(bson.encode(whole)), upsert=True)
        except DuplicateKeyError:
            raise StoreUnavailable(self._taken_over()) from None

    def _apply(self, document: Mapping[str, Any]) -> None:
        changes: list[UpdateOne | DeleteOne] = [DeleteOne({"_id": each}) for each in document["forget"]]
        for each in document["set"]:
            fields = {name: value for name, value in each.items() if name != "_id"}
            changes.append(UpdateOne({"_id": each["_id"]}, {"$set": fields}, upsert=True))
        if changes:
            self._collection.bulk_write(changes, ordered=False)

    def remove(self, spans: Mapping[StreamKey, Span]) -> None:
        """Remove the events of these numbers."""
        for key, span in spans.items():
            prefix = stream_id(key)
            first, last = (prefix + number.to_bytes(8, "big") for number in (span.first, span.stop - 1))
            for name in span.collections:
                self._events(name).delete_many({"_id": {"$gte": first, "$lte": last}})

    def remove_late(self) -> None:
        """Remove what a server may have inserted after it was removed, and forget what is old enough."""
        self.remove({key: span for key, (span, _) in self._late.items()})
        self._late = {key: each for key, each in self._late.items() if each[1] > time.time()}

    def books(self) -> list[Book]:
        """Return the books last written."""
        return read_books(self._collection)


def read_books(collection: Collection[RawBSONDocument]) -> list[Book]:
    """Return the books last written, beside a sink that is writing too."""
    journal = collection.find_one({"_id": _JOURNAL})
    found = {each["_id"]: each["book"] for each in map(_plain, collection.find({"book": {"$exists": True}}))}
    # What is committed counts, applied or not.
    if journal is not None and (said := _plain(journal)).get("state") == "commit":
        found.update((each["_id"], each["book"]) for each in said["set"] if "book" in each)
        for stream in said["forget"]:
            found.pop(stream, None)
    return [_book(each) for each in found.values()]


def put_books(collection: Collection[RawBSONDocument], books: Iterable[Book]) -> None:
    """Replace books of streams that no sink writes; what they say is stored is not to be stored again."""
    changes = [
        UpdateOne(
            {"_id": stream_id(book.key)},
            {"$set": {"book": _document(book)}, "$max": {"mark": bson.Int64(book.next_seq)}},
            upsert=True,
        )
        for book in books
    ]
    if changes:
        collection.bulk_write(changes, ordered=False)


def _plain(document: RawBSONDocument) -> dict[str, Any]:
    return bson.decode(bytes(document.raw))


def _covers(new: Span | None, old: Span) -> bool:
    return new is not None and new.first <= old.first and new.stop >= old.stop


def _listed(key: StreamKey, span: Span) -> dict[str, Any]:
    return {
        "stream": stream_id(key),
        "first": bson.Int64(span.first),
        "stop": bson.Int64(span.stop),
        "collections": list(span.collections),
    }


def _spans(listed: Iterable[Mapping[str, Any]]) -> dict[StreamKey, Span]:
    return {
        _key(each["stream"]): Span(int(each["first"]), int(each["stop"]), tuple(each["collections"])) for each in listed
    }


def _key(stream: bytes) -> StreamKey:
    return StreamKey(stream[:12], int.from_bytes(stream[12:], "big"))


def _document(book: Book) -> dict[str, Any]:
    document = asdict(book)
    # As int64 whatever their size, so that they look alike to whoever adds them up.
    document = {name: bson.Int64(value) if type(value) is int else value for name, value in document.items()}
    source = book.source
    return {**document, "source": {**source._asdict(), "id": ObjectId(source.id)}}


def _book(document: dict[str, Any]) -> Book:
    source = document.pop("source")
    numbers: dict[str, Any] = {
        name: int(value) if isinstance(value, bson.Int64) else value for name, value in document.items()
    }
    return Book(source=Source(source["id"].binary, source["host"], source["service"], source["pid"]), **numbers)
