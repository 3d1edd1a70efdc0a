"""The ledger and the books: whatever arrives, every number is in exactly one account."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eventstorm.wire import Header, Message, encode_event
from eventstorm_sinks.batch import Book, Source
from eventstorm_sinks.books import Books, Entry
from eventstorm_sinks.ledger import MAX_GAP, REMAINDER_TID, Ledger, StreamAccount

SOURCE = b"s" * 12
EVENT = encode_event(0, b"\x05\0\0\0\0")
FIRST_OF_ALL = Message("a", Header(SOURCE, 0, 0, 0, 0, 0, "h", "s", 1), b"")


def message(
    seq: int, n: int, drop: int = 0, *, topic: str = "a", source: bytes = SOURCE, tid: int = 0, bye: bool = False
) -> Message:
    """Return a message of `n` events."""
    return Message(topic, Header(source, tid, seq, n, drop, 0, "h", "s", 1, bye), EVENT * n)


def only(ledger: Ledger) -> StreamAccount:
    """Return the one account that there is."""
    [account] = ledger.snapshot()
    return account


class Sender:
    """What a source does: numbers events, drops some, sends the rest; and what the way does to its messages."""

    def __init__(self) -> None:
        self.next = self.dropped = self.lost = 0
        self.arrived: list[Message] = [FIRST_OF_ALL]
        self.delivered = 0

    def act(self, action: str, count: int) -> None:
        """Do one thing."""
        if action == "drop":
            self.next += count
            self.dropped += count
        elif action == "repeat":
            self.arrived.append(self.arrived[-1 - count % len(self.arrived)])
        else:
            sent = message(self.next, count, self.dropped)
            self.next += count
            if action == "lose":
                self.lost += count
            else:
                self.arrived.append(sent)
                self.delivered += count


ACTIONS = st.lists(
    st.tuples(st.sampled_from(["send", "send", "drop", "lose", "repeat"]), st.integers(0, 5)), max_size=40
)


@given(ACTIONS)
def test_each_number_is_received_or_lost_and_each_loss_has_its_place(actions: list[tuple[str, int]]) -> None:
    """Of any sequence of sends, drops, losses and duplicates."""
    sender = Sender()
    for action, count in actions:
        sender.act(action, count)
    sender.act("send", 0)  # a heartbeat: so that the tail is known
    ledger = Ledger()
    for each in sender.arrived:
        ledger.observe(each, 0.0)
    account = only(ledger)
    assert (account.first_seq, account.next_seq) == (0, sender.next)
    assert account.received == sender.delivered
    assert account.lost_source == sender.dropped
    assert account.lost_way == sender.lost
    assert account.received + account.duplicates == sum(each.header.n for each in sender.arrived)


HOSTILE = st.builds(
    message,
    seq=st.integers(0, 20) | st.integers(0, 2**63 - 100),
    n=st.integers(0, 5),
    drop=st.integers(0, 20) | st.integers(0, 2**63 - 1),
    topic=st.sampled_from(["a", "b"]),
    source=st.sampled_from([SOURCE, b"t" * 12]),
    tid=st.sampled_from([0, 1, REMAINDER_TID]),
    bye=st.booleans(),
)


@given(st.lists(HOSTILE, max_size=40))
def test_no_message_makes_the_sums_wrong(messages: list[Message]) -> None:
    """Numbers that jump, drops that shrink, topics that change: the equation holds, and nothing is raised."""
    ledger = Ledger(max_streams=3, max_closed=1)
    received = 0
    for each in messages:
        received += ledger.observe(each, 0.0).new
    accounts = ledger.snapshot()
    for account in accounts:
        lost = account.lost_source + account.lost_way
        assert account.next_seq - account.first_seq == account.received + lost
        assert min(account.lost_source, account.lost_way, account.duplicates) >= 0
    assert sum(account.received for account in accounts) == received


def test_it_begins_where_it_begins_to_listen() -> None:
    """What a source sent before that is no loss."""
    ledger = Ledger()
    observation = ledger.observe(message(1000, 5, drop=7), 0.0)
    assert observation[:4] == (5, 0, 0, 0)
    assert only(ledger).first_seq == 1000


def test_a_heartbeat_shows_the_loss_of_the_tail() -> None:
    """No later event is needed."""
    ledger = Ledger()
    ledger.observe(message(0, 5), 0.0)
    assert ledger.observe(message(9, 0, drop=1), 0.0)[:4] == (0, 0, 1, 3)


def test_only_the_new_part_of_an_overlapping_message_counts() -> None:
    """The rest is told as duplicates."""
    ledger = Ledger()
    ledger.observe(message(0, 5), 0.0)
    assert ledger.observe(message(3, 4), 0.0)[:2] == (2, 2)
    assert only(ledger).received == 7


@pytest.mark.parametrize(
    "lie", [message(5 + MAX_GAP + 1, 1), message(5, 1, topic="b"), message(0, 1, tid=REMAINDER_TID)]
)
def test_a_message_that_cannot_be_true_changes_nothing(lie: Message) -> None:
    """It is named as what it is."""
    ledger = Ledger()
    ledger.observe(message(0, 5), 0.0)
    before = ledger.snapshot()
    assert ledger.observe(lie, 0.0).contradiction
    assert ledger.snapshot() == before


def test_memory_is_bounded_and_totals_stay_exact() -> None:
    """However many sources there are, and topics."""
    ledger = Ledger(max_streams=10, max_closed=5, max_topics=3)
    for number in range(1000):
        source = number.to_bytes(12, "big")
        ledger.observe(message(0, 2, topic=f"t{number % 7}", source=source), float(number))
        ledger.observe(message(3, 1, topic=f"t{number % 7}", source=source, bye=number % 2 == 0), float(number))
    accounts = ledger.snapshot()
    assert len(accounts) <= 10 + 3 + 1
    assert sum(account.received for account in accounts) == 3000
    assert sum(account.lost_way for account in accounts) == 1000


def test_it_goes_on_from_a_stores_books() -> None:
    """What came while no sink ran is lost; what the books had already is not told again."""
    ledger = Ledger()
    ledger.go_on_from([Book("a", Source(SOURCE, "h", "s", 1), 0, 0, 50, 2, stored=50)], 0.0)
    assert ledger.snapshot() == []
    observation = ledger.observe(message(60, 5, drop=5), 0.0)
    assert observation[:4] == (5, 0, 3, 7)


def _balanced(book: Book) -> bool:
    lost = book.refused + book.overflowed + book.lost_source + book.lost_way
    return book.next_seq - book.first_seq == book.stored + lost


@given(ACTIONS, st.data())
def test_books_are_in_step_with_events_at_each_commit(actions: list[tuple[str, int]], data: st.DataObject) -> None:
    """Whatever overflows, is refused, is split in the middle, or fails before it is committed."""
    sender = Sender()
    for action, count in actions:
        sender.act(action, count)
    sender.act("send", 0)
    books = Books([])
    stored = refused = overflowed = 0
    seen = 0
    for each in sender.arrived:
        new = max(each.header.seq + each.header.n - max(each.header.seq, seen), 0)
        seen = max(seen, each.header.seq + each.header.n)
        entry = Entry.of(each)
        fate = data.draw(st.sampled_from(["store", "split", "refuse", "overflow"]))
        entries = [entry]
        if fate == "split" and len(entry.events) > 1:
            entries = list(entry.split(data.draw(st.integers(1, len(entry.events) - 1))))
        elif fate == "overflow":
            entries = [Entry.overflowed(each)]
            overflowed += new
        elif fate == "refuse" and len(entry.events) == 1 and new:
            entries = [entry.refused()]
            refused += 1
        for part in entries:
            books.post([part])  # an attempt that failed
            posting = books.post([part])
            stored += sum(len(batch.events) for batch in posting.batches)
            books.commit(posting)
            assert all(map(_balanced, books.all()))
    [book] = books.all()
    assert (book.first_seq, book.next_seq) == (0, sender.next)
    assert (book.stored, book.refused, book.overflowed) == (stored, refused, overflowed)
    assert stored + refused + overflowed == sender.delivered
    assert (book.lost_source, book.lost_way) == (sender.dropped, sender.lost)


@given(ACTIONS)
def test_overflowed_messages_may_be_joined_before_they_are_entered(actions: list[tuple[str, int]]) -> None:
    """So that they take no more memory than one, however many they are."""
    sender = Sender()
    for action, count in actions:
        sender.act(action, count)
    one_by_one, joined = Books([]), Books([])
    entries = [Entry.overflowed(each) for each in sender.arrived]
    one_by_one.commit(one_by_one.post(entries))
    all_in_one = entries[0]
    for entry in entries[1:]:
        all_in_one = all_in_one.then(entry)
    joined.commit(joined.post([all_in_one]))
    assert joined.all() == one_by_one.all()


@settings(max_examples=20)
@given(st.integers(0, 60), st.integers(0, 30))
def test_books_are_bounded_and_their_totals_stay_exact(streams: int, closed: int) -> None:
    """The sums take the place of what is forgotten, in one write."""
    books = Books([], max_streams=10, max_closed=5)
    for number in range(streams):
        source, bye = number.to_bytes(12, "big"), number < closed
        books.commit(books.post([Entry.of(message(0, 2, topic=f"t{number % 3}", source=source, bye=bye))]))
        while (fold := books.fold()) is not None:
            books.commit(fold)
    kept = books.all()
    assert sum(book.tid != REMAINDER_TID for book in kept) <= 10
    assert sum(book.closed for book in kept) <= 5
    assert sum(book.stored for book in kept) == 2 * streams
    assert all(map(_balanced, kept))


def test_a_restarted_sink_counts_what_it_had_not_committed_as_lost_on_the_way() -> None:
    """The gap between the books and the first message after it."""
    before = Entry.of(message(0, 10)).book
    books = Books([before])
    books.commit(books.post([Entry.of(message(25, 5, drop=3))]))
    [book] = books.all()
    assert (book.stored, book.lost_source, book.lost_way) == (15, 3, 12)
