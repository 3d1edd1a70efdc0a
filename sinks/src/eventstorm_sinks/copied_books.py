"""What a copy makes of the books: each stream's account goes along with its events, where it says nothing wrong.

An account is of all numbers of its stream from one on, so that accounts of two stores are put together only where it is
sure what they say together. Pure: no I/O, no clock.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import replace

from eventstorm_sinks.batch import Book, StreamKey
from eventstorm_sinks.books import follow
from eventstorm_sinks.ledger import OTHER_TOPICS, REMAINDER_TID

__all__ = ["CopiedBooks"]

_COUNTS = ("next_seq", "drop", "stored", "refused", "overflowed", "lost_source", "lost_way", "last_at_ms", "closed")


class CopiedBooks:
    """The books of a source that are chosen, on their way into a target.

    Args:
        source: the books to copy.
        target: what the target has had before.
    """

    def __init__(self, source: Iterable[Book], target: Iterable[Book]) -> None:
        self._source = {book.key: book for book in source}
        self._target = {book.key: book for book in target}
        topics = {book.topic for book in self._target.values()}
        # Streams that a sum is made of cannot be told apart any more: it is copied where none of them can be yet.
        self._sums_left = {
            book.topic
            for book in self._source.values()
            if book.tid == REMAINDER_TID and (topics if book.topic == OTHER_TOPICS else book.topic in topics)
        }
        self._summed = {
            book.topic
            for key, book in self._target.items()
            if book.tid == REMAINDER_TID and self._source.get(key) != book
        }
        self._written: dict[StreamKey, Book] = {}
        self._refused: Counter[StreamKey] = Counter()

    def sums(self) -> list[Book]:
        """Return the sums of streams that are not kept one by one any more; to be written before anything else."""
        return [
            book
            for book in self._source.values()
            if book.tid == REMAINDER_TID and book.topic not in self._sums_left
            if self._target.get(book.key) != book
        ]

    def beginning(self, keys: Iterable[StreamKey]) -> list[Book]:
        """Return what to write together with the first events that are copied of some streams."""
        found = []
        for key in dict.fromkeys(keys):
            book = self._source.get(key)
            if book is not None and key not in self._written and (new := _joined(self._target.get(key), book)):
                found.append(new)
        return found

    def refused(self, key: StreamKey) -> None:
        """Say that the target refused an event that the source has."""
        self._refused[key] += 1

    def rest(self) -> tuple[list[Book], int]:
        """Return the books that are left to be written when all events are there, and how many stay as they are.

        Those are: of streams that the target has an account of its own of, and of ones that may be in one of its sums.
        """
        found, left = [], 0
        for key, book in self._source.items():
            if book.tid == REMAINDER_TID:
                left += book.topic in self._sums_left and self._target.get(key) != book
                continue
            refused = min(self._refused[key], book.stored)
            book = replace(book, stored=book.stored - refused, refused=book.refused + refused)
            mine = self._target.get(key)
            if mine is None and key not in self._written and not self._summed.isdisjoint((book.topic, OTHER_TOPICS)):
                left += 1
                continue
            new = _joined(mine, book)
            if new is not None and new != self._written.get(key):
                found.append(new)
            elif new is None and mine is not None and not _has_grown(book, mine):
                left += 1
        return found, left

    def wrote(self, books: Iterable[Book]) -> None:
        """Say that the target has these books now."""
        self._written.update((book.key, book) for book in books)


def _joined(mine: Book | None, other: Book) -> Book | None:
    """Return what an account becomes by another of the same stream; None if it stays."""
    if mine is None:
        return other
    if (mine.topic, mine.source) != (other.topic, other.source) or _has_grown(other, mine):
        return None
    if _has_grown(mine, other):
        return other
    if other.next_seq <= mine.first_seq:
        return follow(other, mine)
    return follow(mine, other) if mine.next_seq <= other.first_seq else None


def _has_grown(before: Book, after: Book) -> bool:
    """Tell whether one account is what the other has become."""
    return before.first_seq == after.first_seq and all(
        getattr(before, name) <= getattr(after, name) for name in _COUNTS
    )
