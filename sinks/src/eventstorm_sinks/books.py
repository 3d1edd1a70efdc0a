"""Bookkeeping: how the account of a stream in one store goes on, entry by entry. Pure: no I/O, no clock.

An `Entry` is an account of a few numbers of a stream, with the events among them that are still to be stored. Adding
entries to the books gives what to write, and `Books.commit` makes it the books' new state once the store has it. So a
failed write changes nothing, and each half of a split one carries its own numbers.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import NamedTuple

from eventstorm.wire import Events, Message
from eventstorm_sinks.batch import Batch, Book, Source, StreamKey
from eventstorm_sinks.ledger import OTHER_TOPICS, REMAINDER_TID, blame, remainder_key
from eventstorm_sinks.share import WHOLE, Share

__all__ = ["Books", "Entry", "Posting", "follow", "handed_over", "joined"]

MAX_STORED_NUMBER = 2**63 - 1
_NO_EVENTS = Events((), (), ())


@dataclass(frozen=True, slots=True)
class Entry:
    """What became of the numbers of a stream from ``book.first_seq`` to ``book.next_seq``."""

    book: Book
    """The account of these numbers alone; those of `events` count as stored."""
    drop_before: int
    """How many events the source had dropped, in all, below ``book.first_seq``."""
    events: Events = _NO_EVENTS

    @classmethod
    def of(cls, message: Message) -> Entry:
        """Make the entry of a message that is to be stored."""
        return cls(_book(message, stored=message.header.n), message.header.drop, message.events())

    @classmethod
    def overflowed(cls, message: Message) -> Entry:
        """Make the entry of a message that found no room."""
        return cls(_book(message, overflowed=message.header.n), message.header.drop)

    def then(self, later: Entry) -> Entry:
        """Join with an entry that follows in the same stream; neither may have events to store."""
        return Entry(_add(self.book, _from(later, self.book.next_seq)), self.drop_before)

    def split(self, count: int) -> tuple[Entry, Entry]:
        """Cut after the first `count` events; only for entries that are nothing but events."""
        middle = self.events.seqs[count]
        book, rest = self.book, len(self.events) - count
        return (
            Entry(replace(book, next_seq=middle, stored=count, closed=False), self.drop_before, self.events[:count]),
            Entry(replace(book, first_seq=middle, stored=rest), book.drop, self.events[count:]),
        )

    def refused(self) -> Entry:
        """Return the entry with its events refused in place of stored."""
        return Entry(replace(self.book, stored=0, refused=len(self.events)), self.drop_before)


class Posting(NamedTuple):
    """What a store is to write so that it and its books stay in step."""

    batches: list[Batch]
    books: list[Book]
    forget: list[StreamKey]


class Books:
    """The books of one store. Used by its writer alone.

    Bounded as the ledger is: beyond `max_closed` closed streams or `max_streams` in all, the longest silent are added
    to one book per topic and forgotten.
    """

    def __init__(
        self, books: Iterable[Book], share: Share = WHOLE, *, max_streams: int = 20_000, max_closed: int = 1_000
    ) -> None:
        self._share = share
        self._max_streams, self._max_closed = max_streams, max_closed
        self._books = {book.key: book for book in sorted(books, key=lambda book: book.last_at_ms)}

    def all(self) -> list[Book]:
        """Return the books as of the last commit."""
        return list(self._books.values())

    def knows(self, key: StreamKey) -> bool:
        """Tell whether there is a book of this stream. Safe from any thread that holds the writer's lock."""
        return key in self._books

    def post(self, entries: Iterable[Entry]) -> Posting:
        """Say what writing the entries, in this order, means: events that the books know already are left out.

        The events of a stream are put together into one batch, since many small ones are expensive for a store.
        """
        changed: dict[StreamKey, Book] = {}
        events: dict[StreamKey, list[Events]] = {}
        for entry in entries:
            key = entry.book.key
            book = changed.get(key) or self._books.get(key)
            if book is not None:
                entry = _from(entry, book.next_seq)
                changed[key] = _add(book, entry)
            else:
                changed[key] = entry.book
            if entry.events:
                events.setdefault(key, []).append(entry.events)
        batches = [
            Batch(book.topic, book.source, book.tid, Events.joined(events[key]))
            for key, book in changed.items()
            if key in events
        ]
        return Posting(batches, list(changed.values()), [])

    def commit(self, posting: Posting) -> None:
        """Take over what the store has written."""
        for book in posting.books:
            self._books.pop(book.key, None)  # so that the order is that of who spoke last
            self._books[book.key] = book
        for key in posting.forget:
            del self._books[key]

    def fold(self) -> Posting | None:
        """Return a posting without events that brings the books back within their bounds; None if they are."""
        if len(self._books) <= self._max_closed:
            return None
        streams = [book for book in self._books.values() if book.tid != REMAINDER_TID]
        closed = [book for book in streams if book.closed]
        fold = closed[: max(len(closed) - self._max_closed, 0)]
        left = len(streams) - len(fold) - self._max_streams
        if left > 0:
            gone = {book.key for book in fold}
            fold += sorted((book for book in streams if book.key not in gone), key=lambda book: not book.closed)[:left]
        if not fold:
            return None
        totals: dict[StreamKey, Book] = {}
        for book in fold:
            topic = book.topic
            key = remainder_key(topic, self._share)
            if key not in self._books and key not in totals and self._is_full(totals):
                topic, key = OTHER_TOPICS, remainder_key(OTHER_TOPICS, self._share)
            total = totals.get(key) or self._books.get(key) or _remainder(topic, key)
            totals[key] = _sum(total, book)
        return Posting([], list(totals.values()), [book.key for book in fold])

    def _is_full(self, totals: dict[StreamKey, Book]) -> bool:
        return len(totals) + sum(book.tid == REMAINDER_TID for book in self._books.values()) >= self._max_closed


def handed_over(books: Mapping[StreamKey, Book], others: Iterable[Book], share: Share) -> list[Book]:
    """Return the books to write where streams come to `share` from another, whose books are `others`.

    Each goes on where the other one ends, so that what is lost in between counts here. What a book said of the stream
    before is added to the sum of its topic, since there is a gap now that is no loss.
    """
    changed: dict[StreamKey, Book] = {}
    for other in others:
        known = changed.get(other.key) or books.get(other.key)
        if other.tid == REMAINDER_TID or other.closed or not share.takes(other.topic, other.source.id):
            continue
        if known and known.next_seq >= other.next_seq:
            continue
        if known and known.next_seq > known.first_seq:
            key = remainder_key(known.topic, share)
            total = changed.get(key) or books.get(key) or _remainder(known.topic, key)
            changed[key] = _sum(total, known)
        start = Book(other.topic, other.source, other.tid, other.next_seq, other.next_seq, other.drop)
        changed[other.key] = replace(start, last_at_ms=other.last_at_ms)
    return list(changed.values())


def _remainder(topic: str, key: StreamKey) -> Book:
    return Book(topic, Source(key.source_id, "", "", 0), REMAINDER_TID, 0, 0, 0)


def _book(message: Message, stored: int = 0, overflowed: int = 0) -> Book:
    header = message.header
    return Book(
        message.topic,
        Source(header.source_id, header.host, header.service, header.pid),
        header.tid,
        first_seq=header.seq,
        next_seq=header.seq + header.n,
        drop=header.drop,
        stored=stored,
        overflowed=overflowed,
        last_at_ms=header.at_ms,
        closed=header.bye,
    )


def _from(entry: Entry, seq: int) -> Entry:
    """Leave out of an entry what lies below `seq`, which the book has already."""
    book = entry.book
    if book.first_seq >= seq:
        return entry
    if book.next_seq <= seq:
        nothing = Book(book.topic, book.source, book.tid, seq, seq, book.drop, last_at_ms=book.last_at_ms)
        return Entry(replace(nothing, closed=book.closed), book.drop)
    if entry.events:
        events = entry.events.since(seq)
        return Entry(replace(book, first_seq=seq, stored=len(events)), book.drop, events)
    # Of a joined entry it is not known which of its numbers lie below; all of the rest are at least lost here.
    nothing = Book(book.topic, book.source, book.tid, seq, book.next_seq, book.drop, last_at_ms=book.last_at_ms)
    return Entry(replace(nothing, overflowed=book.next_seq - seq, closed=book.closed), book.drop)


def _add(book: Book, entry: Entry) -> Book:
    """Continue a book by an entry that does not lie before it; the gap in between is loss."""
    new = entry.book
    lost_source, lost_way = blame(new.first_seq - book.next_seq, entry.drop_before - book.drop)
    return Book(
        book.topic,
        book.source,
        book.tid,
        book.first_seq,
        new.next_seq,
        max(book.drop, new.drop),
        book.stored + new.stored,
        book.refused + new.refused,
        book.overflowed + new.overflowed,
        book.lost_source + new.lost_source + lost_source,
        book.lost_way + new.lost_way + lost_way,
        max(book.last_at_ms, new.last_at_ms),
        book.closed or new.closed,
    )


def follow(earlier: Book, later: Book) -> Book:
    """Put two accounts of one stream together; the numbers in between were lost on the way to both stores."""
    return _add(earlier, Entry(later, earlier.drop))


def joined(accounts: Iterable[Book]) -> Book:
    """Put the accounts of one stream by all sinks that have had it together; of the sums of a topic, all.

    Of two that overlap, which no sinks of ours leave, the one that reaches further.
    """
    first, *rest = sorted(accounts, key=lambda book: (book.first_seq, book.next_seq))
    for book in rest:
        if book.tid == REMAINDER_TID:
            first = _sum(first, book)
        elif book.first_seq >= first.next_seq:
            first = follow(first, book)
        elif book.next_seq > first.next_seq:
            first = book
    return first


def _sum(total: Book, book: Book) -> Book:
    """Add a stream's book to the one of its topic; both hold numbers below 2^63, or forged ones are left out."""
    if total.next_seq + book.next_seq - book.first_seq > MAX_STORED_NUMBER:
        return total
    return Book(
        total.topic,
        total.source,
        REMAINDER_TID,
        0,
        total.next_seq + book.next_seq - book.first_seq,
        0,
        total.stored + book.stored,
        total.refused + book.refused,
        total.overflowed + book.overflowed,
        total.lost_source + book.lost_source,
        total.lost_way + book.lost_way,
        max(total.last_at_ms, book.last_at_ms),
    )
