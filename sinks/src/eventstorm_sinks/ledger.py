"""The ledger: what every source numbered, and what became of it up to here. No I/O; the clock is an argument.

A source numbers the events of each of its topics without a gap, and says in every message how many it dropped itself.
So for each stream, from the first number seen on, ``numbered = received + lost_source + lost_way`` at any moment.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

from eventstorm.wire import Message
from eventstorm_sinks.batch import Book, Source, StreamKey
from eventstorm_sinks.share import WHOLE, Share

__all__ = [
    "MAX_GAP",
    "OTHER_TOPICS",
    "REMAINDER_TID",
    "Ledger",
    "Observation",
    "StreamAccount",
    "blame",
    "remainder_key",
]

MAX_GAP = 2**40
"""The most events that one gap may span. No source loses a million million events between two messages, but a forged
number can say so, and would fill every total."""

REMAINDER_TID = 2**31 - 1
"""The topic number of accounts that sum up streams that are not kept one by one any more. The largest there is: no
source gets that far, and a message that says so is not believed."""

OTHER_TOPICS = "*"
"""Stands for the topic where there are too many topics to keep apart. Not a valid topic, so it is nobody's."""


class Observation(NamedTuple):
    """What one message changed in the ledger."""

    new: int
    """Events seen for the first time: the last so many of the message."""
    duplicates: int
    """Events at the start of the message that were seen before."""
    lost_source: int
    lost_way: int
    news: bool
    """There is something to write into the stores' books, even if there are no events."""
    contradiction: str = ""
    """Why the message cannot be true, if so; then it has changed nothing."""


@dataclass(frozen=True, slots=True)
class StreamAccount:
    """The account of one stream as of receipt, since this ledger began."""

    topic: str
    source: Source
    tid: int
    """`REMAINDER_TID`: the sum of streams of the topic that are not kept one by one any more."""
    first_seq: int
    next_seq: int
    received: int
    duplicates: int
    lost_source: int
    lost_way: int
    size_bytes: int
    last_seen_s: float
    closed: bool


class _Account:
    """A `StreamAccount` that is being written."""

    __slots__ = (
        "closed",
        "drop",
        "duplicates",
        "first_seq",
        "last_seen_s",
        "lost_source",
        "lost_way",
        "next_seq",
        "received",
        "seen",
        "size_bytes",
        "source",
        "tid",
        "topic",
    )

    def __init__(self, topic: str, source: Source, tid: int, next_seq: int, drop: int, now_s: float) -> None:
        self.topic, self.source, self.tid = topic, source, tid
        self.first_seq = self.next_seq = next_seq
        self.drop = drop
        self.received = self.duplicates = self.lost_source = self.lost_way = self.size_bytes = 0
        self.last_seen_s = now_s
        self.closed = False
        self.seen = False

    def frozen(self) -> StreamAccount:
        return StreamAccount(
            self.topic,
            self.source,
            self.tid,
            self.first_seq,
            self.next_seq,
            self.received,
            self.duplicates,
            self.lost_source,
            self.lost_way,
            self.size_bytes,
            self.last_seen_s,
            self.closed,
        )


def blame(gap: int, drop_growth: int) -> tuple[int, int]:
    """Divide a gap in the numbers: what the source says that it dropped meanwhile, and the rest, lost on the way."""
    source = min(gap, max(drop_growth, 0))
    return source, gap - source


def remainder_key(topic: str, share: Share = WHOLE) -> StreamKey:
    """Return the key of the account that sums up the streams of `topic` that a share does not keep one by one."""
    return StreamKey(share.remainder_id(topic), REMAINDER_TID)


class Ledger:
    """Accounts of all streams. One thread observes, any thread takes snapshots.

    Memory is bounded, whatever arrives: beyond `max_closed` streams that said goodbye, or `max_streams` in all, the
    longest silent go into one sum per topic (and beyond `max_topics` topics, into one for all), so that totals stay
    exact. A stream that speaks again after that begins a new account.
    """

    def __init__(
        self, share: Share = WHOLE, *, max_streams: int = 20_000, max_closed: int = 1_000, max_topics: int = 2_000
    ) -> None:
        self._share = share
        self._max_streams, self._max_closed, self._max_topics = max_streams, max_closed, max_topics
        # Both in the order of when a stream was last heard, the longest silent first.
        self._open: dict[StreamKey, _Account] = {}
        self._closed: dict[StreamKey, _Account] = {}
        self._remainders: dict[str, _Account] = {}
        self._lock = threading.Lock()

    def go_on_from(self, books: Iterable[Book], now_s: float) -> None:
        """Expect the streams of a store's books to go on where the books end; what came in between counts as lost."""
        for book in books:
            if book.tid == REMAINDER_TID:
                continue
            account = self._open.get(book.key)
            if account is None or account.next_seq < book.next_seq:
                self._open[book.key] = _Account(book.topic, book.source, book.tid, book.next_seq, book.drop, now_s)
        self._fold()

    def observe(self, message: Message, now_s: float) -> Observation:
        """Enter a message. Raises nothing, whatever the numbers in it."""
        header = message.header
        key = StreamKey(header.source_id, header.tid)
        if header.tid == REMAINDER_TID:
            return Observation(0, 0, 0, 0, False, f"topic number {header.tid} is reserved")
        with self._lock:
            account = self._open.pop(key, None) or self._closed.pop(key, None)
            if account is None:
                source = Source(header.source_id, header.host, header.service, header.pid)
                account = _Account(message.topic, source, header.tid, header.seq, header.drop, now_s)
            observation = self._enter(account, message, now_s)
            (self._closed if account.closed else self._open)[key] = account
            self._fold()
        return observation

    def _enter(self, account: _Account, message: Message, now_s: float) -> Observation:
        header = message.header
        gap = header.seq - account.next_seq
        if message.topic != account.topic:
            return Observation(0, 0, 0, 0, False, f"topic number {header.tid} was {account.topic!r} before")
        if gap > MAX_GAP:
            return Observation(0, 0, 0, 0, False, f"a gap of {gap} events")
        news = not account.seen or (header.bye and not account.closed)
        account.seen = True
        account.last_seen_s = now_s
        account.closed = account.closed or header.bye
        account.size_bytes += len(message.payload)
        lost_source = lost_way = 0
        if gap > 0:
            lost_source, lost_way = blame(gap, header.drop - account.drop)
            account.lost_source += lost_source
            account.lost_way += lost_way
        duplicates = min(max(-gap, 0), header.n)
        new = header.n - duplicates
        account.received += new
        account.duplicates += duplicates
        account.next_seq = max(account.next_seq, header.seq + header.n)
        account.drop = max(account.drop, header.drop)
        return Observation(new, duplicates, lost_source, lost_way, news or gap > 0 or new > 0)

    def _fold(self) -> None:
        while len(self._closed) > self._max_closed:
            self._sum_up(self._closed.pop(next(iter(self._closed))))
        while len(self._open) + len(self._closed) > self._max_streams:
            oldest = self._closed or self._open
            self._sum_up(oldest.pop(next(iter(oldest))))

    def _sum_up(self, account: _Account) -> None:
        topic = account.topic
        if topic not in self._remainders and len(self._remainders) >= self._max_topics:
            topic = OTHER_TOPICS
        total = self._remainders.get(topic)
        if total is None:
            source = Source(remainder_key(topic, self._share).source_id, "", "", 0)
            total = self._remainders[topic] = _Account(topic, source, REMAINDER_TID, 0, 0, account.last_seen_s)
        total.next_seq += account.next_seq - account.first_seq
        total.received += account.received
        total.duplicates += account.duplicates
        total.lost_source += account.lost_source
        total.lost_way += account.lost_way
        total.size_bytes += account.size_bytes
        total.last_seen_s = max(total.last_seen_s, account.last_seen_s)

    def snapshot(self) -> list[StreamAccount]:
        """Return all accounts as they are now, by topic. Safe from any thread."""
        with self._lock:
            accounts = [
                account.frozen()
                for accounts in (self._open, self._closed, self._remainders)
                for account in accounts.values()
                if account.seen or account.tid == REMAINDER_TID
            ]
        return sorted(accounts, key=lambda each: (each.topic, each.source.id, each.tid))
