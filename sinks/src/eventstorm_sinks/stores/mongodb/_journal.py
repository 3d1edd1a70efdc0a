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

Sinks that share a collection have a journal each, which names their share, and the streams' documents in common: each
writes only those of its own streams. A sink that starts with another division of the streams signs the journals of all
shares that overlap with its own, finishes what they say of its streams, and notes in them that it has done so. So the
number of shares can be changed, and each stream goes on from where its last owner's account of it ends.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

import bson
from bson.objectid import ObjectId
from bson.raw_bson import RawBSONDocument
from pymongo import DeleteOne, ReturnDocument, UpdateOne
from pymongo.collection import Collection
from pymongo.errors import DuplicateKeyError

from eventstorm_sinks.batch import Book, Source, StreamKey
from eventstorm_sinks.share import Share
from eventstorm_sinks.stores import StoreUnavailable
from eventstorm_sinks.stores.mongodb._envelope import stream_id
from eventstorm_sinks.stores.mongodb._late import Late, Span

__all__ = ["Journal", "put_books", "read_books"]

_JOURNAL = "journal"
# Longer than a server that was paused and goes on takes for what it had received. A host that was suspended for longer
# has lost its connections.
LATE_S = 600


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
        self._name = _name(share)
        self._owner = ObjectId()
        self._is_mine = self._is_open = self._has_taken_over = False
        self._late = Late()
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
        marked = self._collection.find({"mark": {"$exists": True}}, {"mark": 1})
        self.marks = {_key(each["_id"]): int(each["mark"]) for each in marked}
        self._is_open = True

    def _finish(self, found: dict[str, Any]) -> None:
        """Apply or undo what a journal says of this share's streams, but for those that another share has taken."""
        taken = [_share(each) for each in found.get("taken", ())]

        def is_left(topic: str, stream: bytes) -> bool:
            source_id = stream[:12]
            return self._share.takes(topic, source_id) and not any(each.takes(topic, source_id) for each in taken)

        if found.get("state") == "commit":
            topics = self._topics(found["forget"])
            self._apply(
                [each for each in found["set"] if is_left(each.get("book", {}).get("topic", ""), each["_id"])],
                [each for each in found["forget"] if each in topics and is_left(topics[each], each)],
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
        documents = (bson.decode(bytes(each.raw)) for each in found)
        return {each["_id"]: each.get("book", {}).get("topic", "") for each in documents}

    def _take_over(self) -> None:
        """Keep sinks that divide the streams in another way from writing this share's, and finish what they began."""
        others = [bson.decode(bytes(each.raw))["_id"] for each in self._collection.find({"owner": {"$exists": True}})]
        overlapping = [each for each in others if each != self._name and self._share.overlaps(_share(each))]
        for name in overlapping:
            found = self._collection.find_one_and_update({"_id": name}, {"$set": {"owner": self._owner}})
            if found is not None:
                self._finish(bson.decode(bytes(found.raw)))
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
            return bson.decode(bytes(mine.raw)) if mine is not None else {}
        before = self._collection.find_one_and_update(
            {"_id": self._name}, {"$set": {"owner": self._owner}}, upsert=True, return_document=ReturnDocument.BEFORE
        )
        return bson.decode(bytes(before.raw)) if before is not None else {}

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
        self._remove(span for span in self.unfinished if not any(new.covers(span) for new in spans))
        self._replace({"state": "intent", "by": self._owner, "spans": [span.said() for span in spans]})
        self.unfinished = list(spans)

    def undo(self) -> None:
        """Remove what was inserted since `intend`."""
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
            changes.setdefault(book.key, {})["book"] = _document(book)
        gone = set(forget) - marks.keys()
        document: dict[str, Any] = {
            "state": "commit",
            "set": [{"_id": stream_id(key), **change} for key, change in changes.items()],
            "forget": [stream_id(key) for key in gone],
        }
        self._replace(document)
        self._apply(document["set"], document["forget"])
        self.unfinished = []
        self.marks.update(marks)
        for key in gone:
            self.marks.pop(key, None)

    def _replace(self, document: dict[str, Any]) -> None:
        whole = {"_id": self._name, "owner": self._owner, "late": self._late.said(), **document}
        try:
            # If the journal is gone it is made anew; if it has another owner, that one is in the way.
            mine = {"_id": self._name, "owner": self._owner}
            self._collection.replace_one(mine, RawBSONDocument(bson.encode(whole)), upsert=True)
        except DuplicateKeyError:
            raise StoreUnavailable(self._taken_over()) from None

    def _apply(self, documents: Iterable[Mapping[str, Any]], forget: Iterable[bytes]) -> None:
        changes: list[UpdateOne | DeleteOne] = [DeleteOne({"_id": each}) for each in forget]
        for each in documents:
            fields = {name: value for name, value in each.items() if name != "_id"}
            changes.append(UpdateOne({"_id": each["_id"]}, {"$set": fields}, upsert=True))
        if changes:
            self._collection.bulk_write(changes, ordered=False)

    def _remove(self, spans: Iterable[Span]) -> None:
        """Remove the events of these numbers."""
        for span in spans:
            prefix = stream_id(span.key)
            first, last = (prefix + number.to_bytes(8, "big") for number in (span.first, span.stop - 1))
            for name in span.collections:
                self._events(name).delete_many({"_id": {"$gte": first, "$lte": last}})

    def remove_late(self) -> None:
        """Remove what a server may have inserted after it was removed, and forget what is old enough.

        Nothing, if another sink has signed the journal: it may have stored these very events.
        """
        if not self._late or not self._collection.find_one({"_id": self._name, "owner": self._owner}, {"_id": 1}):
            return
        self._remove(self._late.spans())
        self._late.forget(time.time())

    def books(self) -> list[Book]:
        """Return the books last written of this share's streams."""
        found = self._collection.find({"book": {"$exists": True}})
        books = (_book(bson.decode(bytes(each.raw))["book"]) for each in found)
        return [book for book in books if self._share.takes(book.topic, book.source.id)]


def read_books(collection: Collection[RawBSONDocument]) -> list[Book]:
    """Return the books last written, beside a sink that is writing too."""
    found = {each["_id"]: each["book"] for each in map(_plain, collection.find({"book": {"$exists": True}}))}
    # What is committed counts, applied or not.
    for said in map(_plain, collection.find({"state": "commit"})):
        taken = [_share(each) for each in said.get("taken", ())]
        for each in said["set"]:
            if "book" in each and not any(share.takes(each["book"]["topic"], each["_id"][:12]) for share in taken):
                found[each["_id"]] = each["book"]
        for stream in said["forget"]:
            topic = found.get(stream, {}).get("topic", "")
            if not any(share.takes(topic, stream[:12]) for share in taken):
                found.pop(stream, None)
    return [_book(each) for each in found.values()]


def put_books(collection: Collection[RawBSONDocument], books: Iterable[Book]) -> None:
    """Replace books of streams that no sink writes; what they say is stored is not to be stored again.

    Journals may still say of these streams what was committed last, and whoever opens one applies that: therefore it is
    taken out of them. Its marks count.
    """
    new = {stream_id(book.key): book for book in books}
    if not new:
        return
    marks = {stream: book.next_seq for stream, book in new.items()}
    taken_out: list[UpdateOne] = []
    for said in map(_plain, collection.find({"state": "commit"})):
        theirs = [each for each in said["set"] if each["_id"] in marks]
        for each in theirs:
            marks[each["_id"]] = max(marks[each["_id"]], each.get("mark", 0))
        # By the whole elements, since not every server of the protocol takes a condition here.
        pulled = {"$pullAll": {"set": theirs, "forget": list(new)}}
        taken_out.append(UpdateOne({"_id": said["_id"], "state": "commit"}, pulled))
    changes = [
        UpdateOne(
            {"_id": stream},
            {"$set": {"book": _document(book)}, "$max": {"mark": bson.Int64(marks[stream])}},
            upsert=True,
        )
        for stream, book in new.items()
    ]
    collection.bulk_write(changes, ordered=False)
    if taken_out:
        collection.bulk_write(taken_out, ordered=False)


def _plain(document: RawBSONDocument) -> dict[str, Any]:
    return bson.decode(bytes(document.raw))


def _name(share: Share) -> str:
    """Return what the journal of a share is called; that of a sink that shares with nobody has no more to its name."""
    return _JOURNAL if share.of == 1 else f"{_JOURNAL} {share} by {share.by}"


def _share(name: str) -> Share:
    """Return the share whose journal has this name."""
    _, _, said = name.partition(" ")
    text, _, by = said.partition(" by ")
    number, _, of = text.partition("/")
    return Share(int(number), int(of), by) if said else Share()


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
