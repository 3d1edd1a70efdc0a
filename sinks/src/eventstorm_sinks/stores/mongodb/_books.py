"""Books as documents, and how they are read and replaced beside a sink that writes.

What lies where: see `eventstorm_sinks.stores.mongodb._journal`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict
from typing import Any

import bson
from bson.objectid import ObjectId
from bson.raw_bson import RawBSONDocument
from pymongo import UpdateOne
from pymongo.collection import Collection

from eventstorm_sinks.batch import Batch, Book, Source
from eventstorm_sinks.share import Share
from eventstorm_sinks.stores import StoreUnavailable
from eventstorm_sinks.stores.mongodb._envelope import stream_id
from eventstorm_sinks.stores.mongodb._late import Span, runs

__all__ = [
    "book_of",
    "document_of",
    "journal_name",
    "not_copied",
    "note_copied",
    "plain",
    "put_books",
    "read_books",
    "share_of",
]

_JOURNAL = "journal"
# Streams are folded now and then, and a reading takes milliseconds: more than a few attempts are not to be expected.
_MOST_READINGS = 50


def read_books(collection: Collection[RawBSONDocument]) -> list[Book]:
    """Return the books last written, beside a sink that is writing too.

    Each is one that counted at some moment of the reading. A stream that is folded into a sum meanwhile would be in
    both or in neither: then they are read again.

    Raises:
        StoreUnavailable: streams are folded all the time.
    """
    before = _journals(collection)
    for _ in range(_MOST_READINGS):
        found = {each["_id"]: each["book"] for each in map(plain, collection.find({"book": {"$exists": True}}))}
        journals = _journals(collection)
        if list(map(_folding, journals)) == list(map(_folding, before)):
            break
        before = journals
    else:
        raise StoreUnavailable(f"{collection.full_name!r} is written to faster than it can be read; try again")
    # What is committed counts, applied or not.
    for said in journals:
        if said.get("state") != "commit":
            continue
        taken = [share_of(each) for each in said.get("taken", ())]
        for each in said["set"]:
            if "book" in each and not any(share.takes(each["book"]["topic"], each["_id"][:12]) for share in taken):
                found[each["_id"]] = each["book"]
        for stream in said["forget"]:
            topic = found.get(stream, {}).get("topic", "")
            if not any(share.takes(topic, stream[:12]) for share in taken):
                found.pop(stream, None)
    return [book_of(each) for each in found.values()]


def _journals(collection: Collection[RawBSONDocument]) -> list[dict[str, Any]]:
    return sorted(map(plain, collection.find({"owner": {"$exists": True}})), key=lambda each: each["_id"])


def _folding(said: Mapping[str, Any]) -> tuple[Any, ...]:
    """Return what changes in a journal when streams are folded, and when that has reached the streams' documents."""
    folded = said.get("folded", 0)
    return said["_id"], folded, said.get("state") == "commit" and said.get("write", 0) == folded, said.get("taken", [])


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
    for said in map(plain, collection.find({"state": "commit"})):
        theirs = [each for each in said["set"] if each["_id"] in marks]
        for each in theirs:
            marks[each["_id"]] = max(marks[each["_id"]], each.get("mark", 0))
        # By the whole elements, since not every server of the protocol takes a condition here.
        pulled = {"$pullAll": {"set": theirs, "forget": list(new)}}
        taken_out.append(UpdateOne({"_id": said["_id"], "state": "commit"}, pulled))
    changes = [
        UpdateOne(
            {"_id": stream},
            {
                "$set": {"book": document_of(book)},
                "$max": {"mark": bson.Int64(marks[stream])},
                "$unset": {"gone_s": ""},
            },
            upsert=True,
        )
        for stream, book in new.items()
    ]
    collection.bulk_write(changes, ordered=False)
    if taken_out:
        collection.bulk_write(taken_out, ordered=False)


def note_copied(collection: Collection[RawBSONDocument], batches: Iterable[Batch], books: Iterable[Book]) -> None:
    """Keep sinks from removing what is about to be copied, with the number of each event or a book that is of it.

    A sink that was killed may have begun these very events, and others remove what they find of those.
    """
    begun: dict[bytes, list[Span]] = {}
    for said in map(plain, collection.find({"owner": {"$exists": True}}, {"spans": 1, "late": 1})):
        for each in (*said.get("spans", ()), *said.get("late", ())):
            begun.setdefault(each["stream"], []).append(Span.of(each))
    if not begun:
        return
    copied = [(stream_id(batch.key), run) for batch in batches for run in runs(batch.events.seqs)]
    copied += [(stream_id(book.key), (book.first_seq, book.next_seq)) for book in books]
    notes: dict[bytes, dict[str, int]] = {}
    for stream, (first, stop) in copied:
        for span in begun.get(stream, ()):
            if first < span.stop and span.first < stop:
                field = f"copied.{max(first, span.first)}"
                noted = notes.setdefault(stream, {})
                noted[field] = max(noted.get(field, 0), bson.Int64(min(stop, span.stop)))
    changes = [UpdateOne({"_id": stream}, {"$max": noted}, upsert=True) for stream, noted in notes.items()]
    if changes:
        collection.bulk_write(changes)


def not_copied(collection: Collection[RawBSONDocument], span: Span) -> list[Span]:
    """Return what is left of a span without what `note_copied` has said."""
    left = [span]
    found = collection.find_one({"_id": stream_id(span.key), "copied": {"$exists": True}}, {"copied": 1})
    for first, stop in plain(found)["copied"].items() if found is not None else ():
        left = [rest for each in left for rest in each.without(range(int(first), stop))]
    return left


def plain(document: RawBSONDocument) -> dict[str, Any]:
    """Return a document as plain values."""
    return bson.decode(bytes(document.raw))


def journal_name(share: Share) -> str:
    """Return what the journal of a share is called; that of a sink that shares with nobody has no more to its name."""
    return _JOURNAL if share.of == 1 else f"{_JOURNAL} {share} by {share.by}"


def share_of(name: str) -> Share:
    """Return the share whose journal has this name."""
    _, _, said = name.partition(" ")
    text, _, by = said.partition(" by ")
    number, _, of = text.partition("/")
    return Share(int(number), int(of), by) if said else Share()


def document_of(book: Book) -> dict[str, Any]:
    """Return a book as a document."""
    document = asdict(book)
    # As int64 whatever their size, so that they look alike to whoever adds them up.
    document = {name: bson.Int64(value) if type(value) is int else value for name, value in document.items()}
    source = book.source
    return {**document, "source": {**source._asdict(), "id": ObjectId(source.id)}}


def book_of(document: dict[str, Any]) -> Book:
    """Return a book of its document."""
    source = document.pop("source")
    numbers: dict[str, Any] = {
        name: int(value) if isinstance(value, bson.Int64) else value for name, value in document.items()
    }
    return Book(source=Source(source["id"].binary, source["host"], source["service"], source["pid"]), **numbers)
