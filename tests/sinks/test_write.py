"""The writer: a store that is down, slow or choosy loses what it must, counted, and holds up nobody."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest

from eventstorm.wire import Header, Message, encode_event
from eventstorm_sinks.batch import Batch, Book, StoredEvent, StreamKey
from eventstorm_sinks.settings import SinkSettings
from eventstorm_sinks.stores import StoreUnavailable
from eventstorm_sinks.write import Writer

DOCUMENT = b"\x05\0\0\0\0"
KEY = StreamKey(b"s" * 12, 0)


def message(seq: int, n: int, drop: int = 0, size: int = 0, tid: int = 0) -> Message:
    """Return a message of `n` events, each at least of `size` bytes."""
    length = size + 12
    document = length.to_bytes(4, "little") + b"\x02\0" + (size + 1).to_bytes(4, "little") + b"x" * size + b"\0\0"
    header = Header(b"s" * 12, tid, seq, n, drop, 0, "h", "s", 1)
    return Message("a", header, encode_event(0, document) * n)


class Memory:
    """A store in memory, which does what a test wants it to."""

    def __init__(self, location: str = "", settings: SinkSettings | None = None) -> None:
        self.seqs: list[int] = []
        self.sizes: list[int] = []
        self.kept: dict[StreamKey, Book] = {}
        self.poison: set[int] = set()
        self.failure: Exception | None = None
        self.gate = threading.Event()
        self.gate.set()
        self.attempts = 0

    def write(self, batches: Sequence[Batch], books: Sequence[Book], forget: Sequence[StreamKey] = ()) -> None:
        """Write, or fail, or hang."""
        self.attempts += 1
        self.gate.wait()
        if self.failure:
            raise self.failure
        seqs = [event.seq for batch in batches for event in batch.events]
        if self.poison.intersection(seqs):
            raise ValueError("poison")
        self.seqs += seqs
        self.sizes.append(len(seqs))
        self.kept.update({book.key: book for book in books})

    def books(self) -> list[Book]:
        """Return the books."""
        return list(self.kept.values())

    def read(self, topics: Any = (), start_ms: Any = None, stop_ms: Any = None) -> Iterator[StoredEvent]:
        """Not used."""
        raise NotImplementedError

    def maintain(self) -> None:
        """Do nothing."""

    def close(self) -> None:
        """Do nothing."""


def wait_for(condition: Callable[[], Any]) -> None:
    """Wait until `condition` holds."""
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.002)


@pytest.fixture
def store() -> Memory:
    """A store that takes everything."""
    return Memory()


@pytest.fixture
def start(store: Memory) -> Iterator[Callable[..., Writer]]:
    """Return a function that starts a writer."""
    writers: list[Writer] = []

    def start(
        queue_bytes: int = 2**20, commit_s: float = 0.01, batch_events: int = 1000, drop_oldest: bool = False
    ) -> Writer:
        writer = Writer(
            "memory:",
            store,
            queue_bytes=queue_bytes,
            commit_s=commit_s,
            batch_events=batch_events,
            drop_oldest=drop_oldest,
        )
        writer.start()
        writers.append(writer)
        return writer

    yield start
    store.gate.set()
    store.failure = None
    for writer in writers:
        writer.close(5)


def test_all_is_written_in_order_and_closing_flushes(store: Memory, start: Callable[..., Writer]) -> None:
    """Also what came just before."""
    writer = start(commit_s=10)
    for seq in range(0, 100, 10):
        writer.put(message(seq, 10))
    assert writer.close(5) == 0
    assert store.seqs == list(range(100))
    assert store.kept[KEY].stored == 100


def test_an_event_waits_no_longer_than_the_commit_time(store: Memory, start: Callable[..., Writer]) -> None:
    """Without anything coming after it."""
    start(commit_s=0.05).put(message(0, 1))
    wait_for(lambda: store.seqs == [0])


def test_a_new_stream_is_in_the_books_soon(store: Memory, start: Callable[..., Writer]) -> None:
    """However long a commit may wait: after a crash, the books must know where the sink began to listen to it."""
    writer = start(commit_s=3600)
    writer.put(message(0, 1))
    wait_for(lambda: KEY in store.kept)
    writer.put(message(1, 1))
    writer.put(message(0, 1, tid=1))
    wait_for(lambda: store.seqs == [0, 1, 0])


def test_a_write_has_no_more_than_a_batch_of_events(store: Memory, start: Callable[..., Writer]) -> None:
    """Even if one message has more."""
    writer = start(batch_events=30)
    store.gate.clear()
    writer.put(message(0, 100))
    writer.put(message(100, 20))
    writer.put(message(120, 20))
    store.gate.set()
    writer.close(5)
    assert store.seqs == list(range(140))
    assert max(store.sizes) <= 30


def test_what_finds_no_room_is_the_newest_and_is_counted(store: Memory, start: Callable[..., Writer]) -> None:
    """The queue is bounded in bytes; afterwards the books balance, with the losses of the source in between."""
    writer = start(queue_bytes=2**20)
    store.gate.clear()
    for seq in range(0, 2000, 10):
        writer.put(message(seq + seq // 100, 10, drop=seq // 100, size=1000))
        if seq == 0:  # from here on the writer is busy, and takes nothing out of the queue
            wait_for(lambda: writer.stats().writing_s > 0)
    assert writer.stats().queue_bytes <= 2**20
    overflowed = writer.stats().overflowed
    assert 500 < overflowed < 1500
    account = writer.accounts()[KEY]
    assert account.overflowed + account.pending == 2000
    store.gate.set()
    wait_for(lambda: writer.stats().pending == 0)
    writer.put(message(3000, 1, drop=30))
    writer.close(5)
    book = store.kept[KEY]
    assert (book.stored, book.overflowed, book.next_seq) == (2001 - overflowed, overflowed, 3001)
    assert book.lost_source == 30
    assert book.next_seq == book.stored + book.overflowed + book.lost_source + book.lost_way
    assert dict(writer.take_losses()).popitem()[1] == overflowed


def test_what_was_dropped_shows_while_it_is_being_entered_into_the_books(
    store: Memory, start: Callable[..., Writer], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither missing between the queue and the books, nor in both."""
    writer = start(queue_bytes=2**20)
    shown: list[int] = []
    write = store.write

    def look_and_write(batches: Sequence[Batch], books: Sequence[Book], forget: Sequence[StreamKey] = ()) -> None:
        write(batches, books, forget)
        account = writer.accounts()[KEY]
        shown.append(account.overflowed + (account.book.overflowed if account.book else 0))

    monkeypatch.setattr(store, "write", look_and_write)
    store.gate.clear()
    for seq in range(0, 2000, 10):
        writer.put(message(seq, 10, size=1000))
        if seq == 0:
            wait_for(lambda: writer.stats().writing_s > 0)
    overflowed = writer.stats().overflowed
    store.gate.set()
    writer.close(5)

    assert overflowed > 500
    assert set(shown) == {overflowed}
    account = writer.accounts()[KEY]
    assert account.book is not None
    assert (account.overflowed, account.book.overflowed) == (0, overflowed)


def test_where_the_oldest_are_to_go_the_newest_are_stored(store: Memory, start: Callable[..., Writer]) -> None:
    """What waits longest makes room; what is being written stays. Each stream's books balance as ever."""
    writer = start(queue_bytes=2**20, drop_oldest=True)
    store.gate.clear()
    for seq in range(0, 2000, 10):
        for tid in (0, 1):
            writer.put(message(seq + seq // 100, 10, drop=seq // 100, size=500, tid=tid))
        if seq == 0:  # from here on the writer is busy, and takes nothing out of the queue
            wait_for(lambda: writer.stats().writing_s > 0)
    assert writer.stats().queue_bytes <= 2**20
    overflowed = writer.stats().overflowed
    assert 1000 < overflowed < 3000
    assert sum(each.overflowed + each.pending for each in writer.accounts().values()) == 4000
    store.gate.set()
    writer.close(5)
    for tid in (0, 1):
        book = store.kept[StreamKey(KEY.source_id, tid)]
        assert (book.first_seq, book.next_seq, book.lost_source, book.lost_way) == (0, 2019, 19, 0)
        assert book.next_seq == book.stored + book.overflowed + book.lost_source
    assert sum(book.overflowed for book in store.kept.values()) == overflowed
    assert store.seqs[0] == 0
    assert store.seqs[-500:].count(2018) == 2
    assert sum(count for _, count in writer.take_losses()) == overflowed


def test_where_what_is_written_leaves_no_room_the_oldest_do_not_go_in_vain(
    store: Memory, start: Callable[..., Writer]
) -> None:
    """Then the newest is dropped, as there is nothing to be gained."""
    writer = start(queue_bytes=2**20, drop_oldest=True)
    store.gate.clear()
    writer.put(message(0, 1, size=2**20 - 2000))
    wait_for(lambda: writer.stats().writing_s > 0)
    writer.put(message(1, 1, size=2000))
    assert writer.stats().overflowed == 1
    store.gate.set()
    writer.close(5)
    assert store.seqs == [0]
    assert (store.kept[KEY].stored, store.kept[KEY].overflowed) == (1, 1)


def test_a_write_takes_a_part_of_the_queue_only(store: Memory, start: Callable[..., Writer]) -> None:
    """So that while it lasts, most of the room is for what arrives."""
    writer = start(queue_bytes=2**20, commit_s=10, batch_events=10_000)
    for seq in range(100):
        writer.put(message(seq, 1, size=9000))
    writer.close(5)
    assert store.seqs == list(range(100))
    assert max(store.sizes) <= 2**20 / 4 / 10_000


def test_one_message_always_finds_room(store: Memory, start: Callable[..., Writer]) -> None:
    """However small the queue is."""
    writer = start(queue_bytes=2**20)
    writer.put(message(0, 3, size=2**20))
    writer.close(5)
    assert store.seqs == [0, 1, 2]


def test_a_store_that_comes_back_gets_what_has_waited(
    store: Memory, start: Callable[..., Writer], caplog: pytest.LogCaptureFixture
) -> None:
    """With one line in the log, not one per attempt."""
    writer = start()
    store.failure = StoreUnavailable("away")
    writer.put(message(0, 10))
    wait_for(lambda: store.attempts >= 3)
    assert writer.stats().last_error == "away"
    assert writer.stats().pending == 10
    store.failure = None
    wait_for(lambda: store.seqs == list(range(10)))
    wait_for(lambda: not writer.stats().last_error)
    assert len([record for record in caplog.records if "away" in record.getMessage()]) == 1


def test_a_second_reason_is_told_though_another_was_within_the_minute(
    store: Memory, start: Callable[..., Writer], caplog: pytest.LogCaptureFixture
) -> None:
    """Each once, whatever numbers it names."""
    writer = start()
    for text in ("away", "another sink", "away", "another sink"):
        attempts = store.attempts
        store.failure = StoreUnavailable(f"{text}, attempt {attempts}")
        writer.put(message(0, 10))
        wait_for(lambda attempts=attempts: store.attempts > attempts + 1)
    store.failure = None
    writer.close(5)
    told = [record.getMessage() for record in caplog.records if "cannot write now" in record.getMessage()]
    assert ["away" in each for each in told] == [True, False]


def test_of_a_failing_batch_only_the_poisonous_events_are_refused(
    store: Memory, start: Callable[..., Writer], caplog: pytest.LogCaptureFixture
) -> None:
    """In few attempts, and with one line in the log."""
    writer = start()
    store.poison = {3, 77, 78, 500}
    store.gate.clear()
    for seq in range(0, 1000, 50):
        writer.put(message(seq, 50))
    store.gate.set()
    writer.close(5)
    assert store.seqs == [seq for seq in range(1000) if seq not in store.poison]
    assert (store.kept[KEY].stored, store.kept[KEY].refused) == (996, 4)
    assert writer.stats().refused == 4
    assert store.attempts < 100
    assert len([record for record in caplog.records if "refused" in record.getMessage()]) == 1


def test_a_store_that_fails_at_everything_is_away_and_refuses_nothing(
    store: Memory, start: Callable[..., Writer]
) -> None:
    """Or else a fault in the store would throw away all events, one by one."""
    writer = start()
    store.failure = RuntimeError("broken")
    writer.put(message(0, 4))
    wait_for(lambda: "broken" in writer.stats().last_error)
    assert writer.stats().refused == 0
    store.failure = None
    wait_for(lambda: store.seqs == [0, 1, 2, 3])


def test_closing_is_bounded_and_says_what_is_left(
    store: Memory, start: Callable[..., Writer], caplog: pytest.LogCaptureFixture
) -> None:
    """A store that is away does not hold up the end."""
    writer = start()
    store.failure = StoreUnavailable("away")
    writer.put(message(0, 10))
    started = time.monotonic()
    with caplog.at_level(logging.WARNING):
        assert writer.close(0.3) == 10
    assert time.monotonic() - started < 2
    assert writer.stats().overflowed == 10
    assert "10 events unwritten" in caplog.text


def test_a_store_that_hangs_does_not_hold_up_the_receiver(store: Memory, start: Callable[..., Writer]) -> None:
    """Putting never waits for the store."""
    writer = start()
    store.gate.clear()
    started = time.monotonic()
    for seq in range(5000):
        writer.put(message(seq, 1))
    assert time.monotonic() - started < 2


def test_it_goes_on_from_the_books_of_its_store(store: Memory, start: Callable[..., Writer]) -> None:
    """What the store has is not written again, what is missing is lost on the way."""
    start().put(message(0, 10))
    wait_for(lambda: len(store.seqs) == 10)
    writer = start()
    writer.put(message(5, 10))
    writer.put(message(20, 1))
    writer.close(5)
    assert store.seqs == [*range(15), 20]
    assert (store.kept[KEY].stored, store.kept[KEY].lost_way) == (16, 5)


def test_a_book_that_the_store_cannot_hold_does_not_stop_the_others(
    store: Memory, start: Callable[..., Writer], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its events are refused with it."""
    write = store.write

    def choosy(batches: Sequence[Batch], books: Sequence[Book], forget: Sequence[StreamKey] = ()) -> None:
        if any(book.tid == 7 for book in books):
            raise ValueError("a name that this store cannot hold")
        write(batches, books, forget)

    monkeypatch.setattr(store, "write", choosy)
    writer = start()
    store.gate.clear()
    writer.put(message(0, 3))
    writer.put(message(0, 2, tid=7))
    writer.put(message(3, 3))
    store.gate.set()
    writer.close(5)
    assert store.seqs == list(range(6))
    assert writer.stats().refused == 2
