"""A sink at one moment: what its ledger and the books of its stores say of each stream, put together. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from eventstorm_sinks.batch import Source, StreamKey
from eventstorm_sinks.ledger import StreamAccount
from eventstorm_sinks.write import StoreAccount, WriterStats

__all__ = ["LedgerRow", "LedgerRowStore", "SinkSnapshot", "ledger_rows"]


@dataclass(frozen=True, slots=True)
class LedgerRowStore:
    """What became of one stream in one store, over all the time that the store has kept its books."""

    store: str
    stored: int
    refused: int
    overflowed: int
    """Dropped in front of the store, whose queue was full."""
    lost_source: int
    lost_way: int
    """Lost on the way as this store saw it: also what was received but not stored when an earlier run was killed."""
    pending: int


@dataclass(frozen=True, slots=True)
class LedgerRow:
    """What became of one topic of one source: since this process started, and in each store since its books began."""

    topic: str
    source: Source
    tid: int
    """The topic's number in the source; `ledger.REMAINDER_TID`: the sum of streams not kept one by one any more."""
    received: int
    duplicates: int
    lost_source: int
    lost_way: int
    size_bytes: int
    last_seen_s: float | None
    """Unix time; None if this stream is known only from a store's books."""
    closed: bool
    stores: tuple[LedgerRowStore, ...]


@dataclass(frozen=True, slots=True)
class SinkSnapshot:
    """A sink, or a page over several, at one moment."""

    at_s: float
    rows: tuple[LedgerRow, ...]
    stores: tuple[WriterStats, ...]
    """Of the stores that this process writes."""
    malformed: dict[str, int]


def ledger_rows(
    received: Iterable[StreamAccount], accounts: Sequence[tuple[str, Mapping[StreamKey, StoreAccount]]]
) -> tuple[LedgerRow, ...]:
    """Return a row for each stream, by topic and source.

    Args:
        received: the ledger's accounts.
        accounts: for each store its name, and what it has of each stream.
    """
    by_key = {StreamKey(each.source.id, each.tid): each for each in received}
    # What waits for a store may be of a stream that has no book yet, and that the ledger has summed up meanwhile:
    # its topic is not known here until it is written.
    known = ((key for key, account in books.items() if account.book) for _, books in accounts)
    keys = set(by_key).union(*known)
    rows = [_row(by_key.get(key), [(url, books.get(key)) for url, books in accounts]) for key in keys]
    rows.sort(key=lambda row: (row.topic, row.source.host, row.source.service, row.source.pid, row.source.id))
    return tuple(rows)


def _row(account: StreamAccount | None, stores: list[tuple[str, StoreAccount | None]]) -> LedgerRow:
    books = [store.book for _, store in stores if store and store.book]
    known = account or books[0]
    return LedgerRow(
        topic=known.topic,
        source=known.source,
        tid=known.tid,
        received=account.received if account else 0,
        duplicates=account.duplicates if account else 0,
        lost_source=account.lost_source if account else 0,
        lost_way=account.lost_way if account else 0,
        size_bytes=account.size_bytes if account else 0,
        last_seen_s=account.last_seen_s if account else None,
        closed=account.closed if account else known.closed,
        stores=tuple(_store(url, store) for url, store in stores),
    )


def _store(url: str, account: StoreAccount | None) -> LedgerRowStore:
    if account is None:
        return LedgerRowStore(url, 0, 0, 0, 0, 0, 0)
    book = account.book
    if book is None:
        return LedgerRowStore(url, 0, 0, account.overflowed, 0, 0, account.pending)
    return LedgerRowStore(
        url,
        book.stored,
        book.refused,
        book.overflowed + account.overflowed,
        book.lost_source,
        book.lost_way,
        account.pending,
    )
