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
are removed again, when a sink starts, each minute, and when it ends; but for those that came by the right way since.
And two sinks must not write the same journal: each signs it when it starts, and a step finds it only under its own
signature; so the last one to start is the one that writes, and the earlier one says so.

Nor is removed what `eventstorm copy` brings, though a killed sink had begun it: before it inserts anything, the copy
notes in the streams' documents which of the numbers in the journals it is about to insert, or has a book of.

Nor may a sink that stalls between its commit and its application undo, when it wakes, what its successor has applied
since. Writes are numbered: a sink goes on from the highest number in the journals that it takes over. Each stream's
document has the number of the write that it is of, and an earlier one passes it by. A stream that is forgotten leaves
an empty document for some minutes, so that nothing brings it back.

Sinks that share a collection have a journal each, which names their share, and the streams' documents in common: each
writes only those of its own streams. A sink that starts with another division of the streams signs the journals of all
shares that overlap with its own, finishes what they say of its streams, and notes in them that it has done so. So the
number of shares can be changed, and each stream goes on from where its last owner's account of it ends.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import bson
from bson.objectid import ObjectId
from bson.raw_bson import RawBSONDocument
from pymongo import ReturnDocument, UpdateOne
from pymongo.collection import Collection
from pymongo.errors import BulkWriteError, DuplicateKeyError

from eventstorm_sinks.batch import Book, StreamKey
from eventstorm_sinks.share import Share
from eventstorm_sinks.stores import StoreUnavailable
from eventstorm_sinks.stores.mongodb._books import book_of, document_of, journal_name, not_copied, plain, share_of
from eventstorm_sinks.stores.mongodb._envelope import stream_id
from eventstorm_sinks.stores.mongodb._late import Late, Span, uncovered

__all__ = ["Journal"]

# Longer than a server that was paused and goes on takes for what it had received. A host that was suspended for longer
# has lost its connections.
LATE_S = 600
_DUPLICATE_KEY = 11000


class Journal:
    """The journal and the streams' documents in one collection. Used by one thread.

    Args:
        collection: of its own, beside that of the events.
        events: returns a collection of events by its name.
        share: whose journal it is.
    """

    def __init__(
        self,
        collection: Collection[RawBSONDocument],
        events: Callable[[str], Collection[RawBSONDocument]],
        share: Share,
    ) -> None:
        self._collection, self._events, self._share = collection, events, share
        self._name = journal_name(share)
        self._owner = ObjectId()
        self._is_mine = self._is_open = self._has_taken_over = False
        self._late = Late()
        self._write = self._folded = 0
        """The number of the last write; and of the last one that folded streams into a sum, or forgot some."""
        self.marks: dict[StreamKey, int] = {}
        """Of each stream, the number after the last one that is stored."""
        self.unfinished: list[Span] = []
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
        if found.get("state") == "intent" and found["by"] == self._owner:
            self.unfinished = list(map(Span.of, found["spans"]))
        else:
            self.unfinished = []
            self._finish(found)
        if not self._has_taken_over:
            self._take_over()
            self._has_taken_over = True
            self.remove_late()
        streams = list(self._collection.find({"owner": {"$exists": False}}, {"mark": 1, "write": 1}))
        self.marks = {_key(each["_id"]): int(each["mark"]) for each in streams if "mark" in each}
        # Not from the journals alone, which somebody may have removed.
        self._write = max([self._write, *(int(each["write"]) for each in streams if "write" in each)])
        self._is_open = True

    def _finish(self, found: dict[str, Any]) -> None:
        """Apply or undo what a journal says of this share's streams, but for those that another share has taken."""
        self._write = max(self._write, int(found.get("write", 0)))
        self._folded = max(self._folded, int(found.get("folded", 0)))
        taken = [share_of(each) for each in found.get("taken", ())]

        def is_left(topic: str, stream: bytes) -> bool:
            source_id = stream[:12]
            return self._share.takes(topic, source_id) and not any(each.takes(topic, source_id) for each in taken)

        if found.get("state") == "commit":
            topics = self._topics(found["forget"])
            self._apply(
                [each for each in found["set"] if is_left(each.get("book", {}).get("topic", ""), each["_id"])],
                [each for each in found["forget"] if each in topics and is_left(topics[each], each)],
                int(found.get("write", 0)),
            )
        elif found.get("state") == "intent":
            spans = [Span.of(each) for each in found["spans"] if is_left(each.get("topic", ""), each["stream"])]
            self._remove(spans)
            self._late.add(spans, time.time() + LATE_S)
        for each in found.get("late", ()):
            if is_left(each.get("topic", ""), each["stream"]):
                self._late.add([Span.of(each)], each["until_s"])

    def _topics(self, streams: Sequence[bytes]) -> dict[bytes, str]:
        if not streams:
            return {}
        found = self._collection.find({"_id": {"$in": list(streams)}}, {"book.topic": 1})
        documents = map(plain, found)
        return {each["_id"]: each.get("book", {}).get("topic", "") for each in documents}

    def _take_over(self) -> None:
        """Keep sinks that divide the streams in another way from writing this share's, and finish what they began."""
        others = [plain(each)["_id"] for each in self._collection.find({"owner": {"$exists": True}})]
        overlapping = [each for each in others if each != self._name and self._share.overlaps(share_of(each))]
        for name in overlapping:
            found = self._collection.find_one_and_update({"_id": name}, {"$set": {"owner": self._owner}})
            if found is not None:
                self._finish(plain(found))
        if overlapping:
            # Before it is noted there: from now on it stands here what may have to be removed once more.
            self._replace({"state": "none"})
            self._collection.update_many({"_id": {"$in": overlapping}}, {"$addToSet": {"taken": self._name}})

    def _sign(self) -> dict[str, Any]:
        """Return the journal as it was before, as plain values."""
        if self._is_mine:
            mine = self._collection.find_one({"_id": self._name})
            if mine is not None and mine["owner"] != self._owner:
                raise StoreUnavailable(self._taken_over())
            return plain(mine) if mine is not None else {}
        before = self._collection.find_one_and_update(
            {"_id": self._name}, {"$set": {"owner": self._owner}}, upsert=True, return_document=ReturnDocument.BEFORE
        )
        return plain(before) if before is not None else {}

    def _taken_over(self) -> str:
        return (
            f"another sink has begun to write to {self._collection.full_name!r}; stop one of the two, let them share "
            "the events (--share 1/2 and 2/2), or give each a collection of its own: mongodb://HOST/DATABASE.COLLECTION"
        )

    def distrust(self) -> None:
        """Look again what the server has, before the next write: it failed in between."""
        self._is_open = False

    def intend(self, spans: Sequence[Span]) -> None:
        """Say what is about to be inserted."""
        self._remove(uncovered(self.unfinished, spans))
        self._replace({"state": "intent", "by": self._owner, "spans": [span.said() for span in spans]})
        self.unfinished = list(spans)

    def undo(self) -> None:
        """Remove what was inserted since `intend`.

        Raises:
            StoreUnavailable: another sink has signed the journal, and may have stored these very events.
        """
        found = self._collection.find_one({"_id": self._name}, {"owner": 1})
        if found is not None and found["owner"] != self._owner:
            raise StoreUnavailable(self._taken_over())
        self._remove(self.unfinished)
        self._replace({"state": "none"})
        self.unfinished = []

    def inserted(self, key: StreamKey, numbers: Sequence[int]) -> None:
        """Say which of the numbers were inserted, before `commit`: those are not removed as late ones any more."""
        self._late.leave_out(key, numbers)

    def commit(self, marks: Mapping[StreamKey, int], books: Sequence[Book], forget: Iterable[StreamKey]) -> None:
        """Make the write count: what was inserted, the new marks, the books."""
        if any(span.key not in marks for span in self.unfinished):
            self.undo()
        changes: dict[StreamKey, dict[str, Any]] = {key: {"mark": mark} for key, mark in marks.items()}
        for book in books:
            changes.setdefault(book.key, {})["book"] = document_of(book)
        gone = set(forget) - marks.keys()
        self._write += 1
        if gone:
            self._folded = self._write
        document: dict[str, Any] = {
            "state": "commit",
            "set": [{"_id": stream_id(key), **change} for key, change in changes.items()],
            "forget": [stream_id(key) for key in gone],
        }
        self._replace(document)
        self._apply(document["set"], document["forget"], self._write)
        self.unfinished = []
        self.marks.update(marks)
        for key in gone:
            self.marks.pop(key, None)

    def _replace(self, document: dict[str, Any]) -> None:
        numbers = {"write": bson.Int64(self._write), "folded": bson.Int64(self._folded)}
        whole = {"_id": self._name, "owner": self._owner, "late": self._late.said(), **numbers, **document}
        try:
            # If the journal is gone it is made anew; if it has another owner, that one is in the way.
            mine = {"_id": self._name, "owner": self._owner}
            self._collection.replace_one(mine, RawBSONDocument(bson.encode(whole)), upsert=True)
        except DuplicateKeyError:
            raise StoreUnavailable(self._taken_over()) from None

    def _apply(self, documents: Iterable[Mapping[str, Any]], forget: Iterable[bytes], write: int) -> None:
        """Copy what a write says to the documents of its streams, but for those that have a later one."""
        number = bson.Int64(write)
        gone = {"$set": {"write": number, "gone_s": time.time()}, "$unset": {"mark": "", "book": ""}}
        updates: list[tuple[bytes, dict[str, Any], bool]] = [(stream, gone, False) for stream in forget]
        for each in documents:
            fields = {name: value for name, value in each.items() if name != "_id"}
            updates.append((each["_id"], {"$set": {**fields, "write": number}, "$unset": {"gone_s": ""}}, True))
        if not updates:
            return
        # Where it finds none and the stream is there, the server says that its key is there already.
        changes: list[tuple[dict[str, Any], dict[str, Any], bool]] = [
            ({"_id": stream, "write": {"$not": {"$gt": number}}}, update, upsert) for stream, update, upsert in updates
        ]
        try:
            self._collection.bulk_write([UpdateOne(*change) for change in changes], ordered=False)
            return
        except KeyError:  # FerretDB leaves out of such an answer what the driver adds up
            pass
        except BulkWriteError as error:
            codes = {each["code"] for each in error.details["writeErrors"]}
            if error.details["writeConcernErrors"] or codes != {_DUPLICATE_KEY}:
                raise
        # Once more, since it may have come at this very moment, and of an earlier write. One by one: see FerretDB.
        for change in changes:
            with contextlib.suppress(DuplicateKeyError):
                self._collection.update_one(*change)

    def remove_gone(self) -> None:
        """Remove what forgotten streams have left, when it is old enough."""
        self._collection.delete_many({"gone_s": {"$lt": time.time() - LATE_S}})

    def _remove(self, spans: Iterable[Span]) -> None:
        """Remove the events of these numbers, but for those that were copied."""
        for span in (rest for each in spans for rest in not_copied(self._collection, each)):
            prefix = stream_id(span.key)
            first, last = (prefix + number.to_bytes(8, "big") for number in (span.first, span.stop - 1))
            for name in span.collections:
                self._events(name).delete_many({"_id": {"$gte": first, "$lte": last}})

    def remove_late(self) -> None:
        """Remove what a server may have inserted after it was removed, and forget what is old enough.

        The oldest first and one by one, so that this ends some time however short the time is that it is given.
        Nothing, if another sink has signed the journal: it may have stored these very events.
        """
        if not self._late or not self._collection.find_one({"_id": self._name, "owner": self._owner}, {"_id": 1}):
            return
        now_s = time.time()
        for span in self._late.spans():
            self._remove([span])
            self._late.forget(span, now_s)

    def books(self) -> list[Book]:
        """Return the books last written of this share's streams."""
        found = self._collection.find({"book": {"$exists": True}})
        books = (book_of(plain(each)["book"]) for each in found)
        return [book for book in books if self._share.takes(book.topic, book.source.id)]


def _key(stream: bytes) -> StreamKey:
    return StreamKey(stream[:12], int.from_bytes(stream[12:], "big"))
