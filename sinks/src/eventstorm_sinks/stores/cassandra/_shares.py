"""Sharing a table: what the partitions of several sinks' books are called, whose a stream is, and what readers see."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from eventstorm_sinks.batch import Book, StreamKey
from eventstorm_sinks.books import joined
from eventstorm_sinks.share import Share

__all__ = ["COPY", "Committed", "all_accounts", "name_of", "share_of"]

COPY = "copy"
"""Whose books are those of copying, which may be of any stream."""


def name_of(share: Share) -> str:
    """Return what the partition of a share's books is called."""
    return str(share) if share.of == 1 else f"{share} by {share.by}"


def share_of(sink: str) -> Share | None:
    """Return the share whose books a partition holds; None if they are not a sink's."""
    if sink == COPY:
        return None
    said, _, by = sink.partition(" by ")
    return Share.parse(said, by or "source", "a sink's books")


class Committed:
    """Up to which time of writing the rows of a stream count for readers.

    Args:
        sinks: of each partition of books, when there was last nothing unfinished; None if there never was.
        otherwise_us: what counts where nobody keeps books.
    """

    def __init__(self, sinks: Iterable[tuple[str, int | None]], otherwise_us: int) -> None:
        found = [(share_of(sink), committed_us or 0) for sink, committed_us in sinks]
        anybody = [each for share, each in found if share is None or share.of == 1]
        self._least_us = max(anybody, default=0) if found else otherwise_us
        self._parts = [(share, each) for share, each in found if share is not None and share.of > 1]
        self._known: dict[tuple[str, bytes], int] = {}

    def of(self, topic: str, source_id: bytes) -> int:
        """Return that time, in microseconds since 1970."""
        if not self._parts:
            return self._least_us
        known = self._known.get((topic, source_id))
        if known is None:
            if len(self._known) > 10_000:  # a scan of many short-lived sources
                self._known.clear()
            own = [each for share, each in self._parts if share.takes(topic, source_id)]
            known = self._known[topic, source_id] = max([self._least_us, *own])
        return known


def all_accounts(sinks: Mapping[str, Iterable[Book]]) -> list[Book]:
    """Return one book for each stream of those of all sinks, and of copying where that reaches further."""
    accounts: dict[StreamKey, list[Book]] = {}
    for sink, books in sinks.items():
        if sink != COPY:
            for book in books:
                accounts.setdefault(book.key, []).append(book)
    found = {key: joined(each) for key, each in accounts.items()}
    for book in sinks.get(COPY, ()):
        if book.key not in found or found[book.key].next_seq < book.next_seq:
            found[book.key] = book
    return list(found.values())
