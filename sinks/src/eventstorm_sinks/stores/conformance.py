"""Whether a store keeps its promises: tests for built-in stores and for plug-ins alike. Needs pytest.

Subclass `StoreConformance` in a test module, and say in a fixture where a new store is to be made::

    class TestMyStore(StoreConformance):
        @pytest.fixture
        def url(self, tmp_path):
            return f"mystore:{tmp_path / 'events'}"

The store has to be registered under the entry-point group ``eventstorm.stores``, since that is how it is opened. For
failures that show the values, call ``pytest.register_assert_rewrite("eventstorm_sinks.stores.conformance")`` in the
``conftest.py``.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import bson
import pytest
from bson.codec_options import CodecOptions, DatetimeConversion

from eventstorm.errors import EventstormError
from eventstorm.wire import Event, Events, Header, Message, encode_event, event_id
from eventstorm_sinks.batch import Batch, Book, Source, StoredEvent
from eventstorm_sinks.ledger import REMAINDER_TID
from eventstorm_sinks.settings import SinkSettings
from eventstorm_sinks.stores import Reader, Series, Store, StoreUnavailable, open_store
from eventstorm_sinks.stores._compared import COMPARED, CONDITIONS
from eventstorm_sinks.stores._kinds import DOCUMENTS
from eventstorm_sinks.stores.asked_where import AskedWhere
from eventstorm_sinks.stores.where import Condition, parse_condition
from eventstorm_sinks.write import Writer

__all__ = ["DOCUMENTS", "StoreConformance", "batch_of", "book_of", "events_of"]

SOURCE = Source(bytes(range(12)), "host-a.example", "shop", 4242)
OTHER_SOURCE = Source(bytes(range(100, 112)), "höst-b", "", 0)
_OPTIONS: CodecOptions[dict[str, Any]] = CodecOptions(datetime_conversion=DatetimeConversion.DATETIME_MS)


def events_of(documents: Sequence[bytes], seq: int = 0, ts_ms: int = 1_767_225_600_000) -> Events:
    """Return events with these documents, numbered from `seq`, a second apart."""
    numbers = range(len(documents))
    return Events([seq + each for each in numbers], [ts_ms + 1000 * each for each in numbers], documents)


def batch_of(events: Iterable[Event], topic: str = "shop.order", source: Source = SOURCE, tid: int = 0) -> Batch:
    """Return a batch of these events."""
    return Batch(topic, source, tid, Events.of(events))


def book_of(batch: Batch) -> Book:
    """Return the book of a stream of which this batch is all there is."""
    first, last = batch.events[0].seq, batch.events[-1].seq
    stored = len(batch.events)
    return Book(
        batch.topic, batch.source, batch.tid, first, last + 1, 0, stored=stored, lost_way=last + 1 - first - stored
    )


def _numbers(stored: Sequence[StoredEvent]) -> list[int]:
    return [bson.decode(each.data)["number"] for each in stored]


def _ids(stored: Sequence[StoredEvent]) -> list[bytes]:
    return sorted(each.id for each in stored)


def _numbered(*numbers: int) -> list[bytes]:
    return [bson.encode({"number": number}) for number in numbers]


class StoreConformance:
    """The promises. A subclass overrides the fixture `url`, and `settings` if its store needs some."""

    @pytest.fixture
    def url(self) -> str:
        """Where this test's new, empty store is made."""
        raise NotImplementedError("override the fixture `url`")

    @pytest.fixture
    def settings(self) -> SinkSettings:
        """The sink's settings."""
        return SinkSettings()

    @pytest.fixture
    def open(self, url: str, settings: SinkSettings) -> Iterator[Callable[[], Store]]:
        """Return a function that opens the store; one that is open is closed before."""
        stores: list[Store] = []

        def open_again() -> Store:
            for store in stores:
                store.close()
            stores.append(open_store(url, settings))
            return stores[-1]

        yield open_again
        for store in stores:
            store.close()

    @pytest.fixture
    def store(self, open: Callable[[], Store]) -> Store:
        """An empty store."""
        return open()

    @pytest.mark.parametrize("name", DOCUMENTS)
    def test_what_goes_in_comes_back_equal(self, store: Store, name: str) -> None:
        """Every BSON type, to the last bit that decoding shows."""
        document = DOCUMENTS[name]
        store.write([batch_of(events_of([document]))], [])
        [stored] = store.read()
        assert _comparable(stored.data) == _comparable(document)

    def test_many_kinds_in_one_batch_come_back_equal(self, open: Callable[[], Store]) -> None:
        """Documents of one batch do not influence each other, and a reopened store gives the same."""
        open().write([batch_of(events_of(list(DOCUMENTS.values())))], [])
        stored = list(open().read())
        assert [_comparable(each.data) for each in stored] == [_comparable(each) for each in DOCUMENTS.values()]

    def test_an_event_keeps_its_identity_time_topic_and_source(self, store: Store) -> None:
        """All of what is beside the document."""
        store.write([batch_of(events_of(_numbered(1), seq=2**62), source=OTHER_SOURCE, tid=7)], [])
        [stored] = store.read()
        assert stored[:4] == (event_id(OTHER_SOURCE.id, 7, 2**62), 1_767_225_600_000, "shop.order", OTHER_SOURCE)

    def test_times_long_ago_and_far_ahead_are_kept(self, store: Store) -> None:
        """Clocks go wrong: from year 1 to 9999, in milliseconds."""
        times = [-62_135_596_800_000, -1, 0, 1, 253_402_300_799_999]
        events = [Event(seq, ts_ms, _numbered(seq)[0]) for seq, ts_ms in enumerate(times)]
        store.write([batch_of(events)], [])
        assert [each.ts_ms for each in store.read()] == times

    def test_a_batch_written_twice_is_stored_once(self, open: Callable[[], Store]) -> None:
        """Also if the store was closed in between."""
        batch = batch_of(events_of(_numbered(1, 2, 3)))
        store = open()
        store.write([batch], [book_of(batch)])
        store.write([batch], [book_of(batch)])
        store = open()
        store.write([batch], [book_of(batch)])
        assert _numbers(list(store.read())) == [1, 2, 3]

    def test_of_overlapping_batches_each_event_is_stored_once(self, store: Store) -> None:
        """Whether they come in one write or in several."""
        events = events_of(_numbered(0, 1, 2, 3, 4, 5))
        store.write([batch_of(events[:3]), batch_of(events[2:4])], [])
        store.write([batch_of(events[1:])], [])
        assert _numbers(list(store.read())) == [0, 1, 2, 3, 4, 5]

    def test_streams_do_not_hide_each_other(self, store: Store) -> None:
        """The same numbers in another topic or another source are other events."""
        events = events_of(_numbered(1))
        batches = [batch_of(events), batch_of(events, "shop.visit", tid=1), batch_of(events, source=OTHER_SOURCE)]
        store.write(batches, [])
        assert len(list(store.read())) == 3

    def test_reading_is_in_the_order_of_time(self, store: Store) -> None:
        """Whatever the order of writing was; of the same time, by identity."""
        late = [Event(seq, 5000 + seq, _numbered(5000 + seq)[0]) for seq in range(3)]
        early = [Event(seq, 1000 - seq, _numbered(1000 - seq)[0]) for seq in range(3)]
        store.write([batch_of(late)], [])
        store.write([batch_of(early, source=OTHER_SOURCE), batch_of(early, "shop.visit", tid=1)], [])
        stored = list(store.read())
        assert [(each.ts_ms, each.id) for each in stored] == sorted((each.ts_ms, each.id) for each in stored)
        assert _numbers(stored) == [998, 998, 999, 999, 1000, 1000, 5000, 5001, 5002]

    def test_reading_is_by_topic_and_time(self, store: Store) -> None:
        """The start is included, the stop is not; a topic is not a prefix."""
        events = [Event(seq, 1000 * seq, _numbered(seq)[0]) for seq in range(5)]
        store.write([batch_of(events), batch_of(events, "shop.orders", tid=1), batch_of(events, "shop", tid=2)], [])
        assert _numbers(list(store.read(["shop.order"], 1000, 3000))) == [1, 2]
        assert _numbers(list(store.read(["shop.order", "shop"], 4000))) == [4, 4]
        assert _numbers(list(store.read(stop_ms=1000))) == [0, 0, 0]
        assert list(store.read(["shop.none"])) == []

    def test_reading_is_by_what_is_in_the_documents(self, store: Store) -> None:
        """All stores choose the same events by a condition, whatever is in them."""
        held = {letter: each for letter, each in COMPARED.items() if self.can_hold(each)}
        store.write([batch_of(events_of([bson.encode(each) for each in held.values()]))], [])
        for said, letters in CONDITIONS.items():
            events = store.read(where=[parse_condition(said, "")])
            found = "".join([*held][int.from_bytes(each.id[16:], "big")] for each in events)
            assert (said, found) == (said, "".join(letter for letter in held if letter in letters))

    def test_reading_is_by_topic_time_and_conditions_together(self, store: Store) -> None:
        """All have to hold, two on one field among them."""
        events = [Event(seq, 1000 * seq, _numbered(seq)[0]) for seq in range(9)]
        store.write([batch_of(events), batch_of(events, "shop.visit", tid=1)], [])
        where = [Condition("number", ">", 1), Condition("number", "<=", 5)]
        assert _numbers(list(store.read(["shop.order"], 1000, 5000, where))) == [2, 3, 4]
        assert _numbers(list(store.read(where=where))) == [2, 2, 3, 3, 4, 4, 5, 5]

    def test_questions_with_conditions_are_answered_alike(self, store: Store) -> None:
        """The newest events and series, if the store answers questions; without any condition, as it does itself."""
        if not isinstance(store, Reader):
            return
        events = [Event(seq, 1000 * seq, _numbered(seq)[0]) for seq in range(9)]
        other = batch_of(events, "shop.visit", OTHER_SOURCE, tid=1)
        store.write([batch_of(events), other, batch_of(events, "shopping", tid=2)], [])
        asked = AskedWhere(store, store, [Condition("number", ">", 1), Condition("number", "!=", 6)], 60)
        assert _numbers(asked.recent(["shop."], "", None, 5)) == [8, 8, 7, 7, 5]
        assert _numbers(asked.recent(["shop.visit", "shop"], "", 7000, 2)) == [5, 4]
        assert _numbers(asked.recent([], "VISIT", None, 9)) == [8, 7, 5, 4, 3, 2]
        assert asked.recent(["shop.none"], "", None, 5) == []
        assert asked.series("shop.order", "number", "sum", 0, 10, 5) == [Series("", [(0, 9.0), (5, 20.0)])]
        assert asked.series("shop.none", None, "count", 0, 10, 5) == []
        for by in (None, "topic", "source.host", "source.id", "number"):
            for field, aggregate in ((None, "count"), ("number", "avg"), ("number", "max")):
                question = "", field, aggregate, 0, 10, 5, by
                assert AskedWhere(store, store, [], 60).series(*question) == store.series(*question)
        assert _ids(AskedWhere(store, store, [], 60).recent([], "", None, 30)) == _ids(store.recent([], "", None, 30))
        with pytest.raises(EventstormError, match=r"the question took more than -1 s"):
            AskedWhere(store, store, [], -1).series("", None, "count", 0, 10, 5)

    def can_hold(self, document: dict[str, Any]) -> bool:
        """Tell whether what is behind the store knows the types in a document."""
        return True

    def test_reading_goes_on_beside_writing(self, store: Store) -> None:
        """A reader sees whole writes, and is not disturbed by later ones."""
        store.write([batch_of(events_of(_numbered(*range(10))))], [])
        reading = store.read()
        first = next(reading)
        store.write([batch_of(events_of(_numbered(*range(10, 20)), seq=10))], [])
        assert _numbers([first, *reading])[:10] == list(range(10))
        assert len(list(store.read())) == 20

    def test_books_come_back_as_they_were_last_written(self, open: Callable[[], Store]) -> None:
        """With all of their fields, also without events, of each stream the last."""
        book = Book("shop.order", SOURCE, 3, 5, 2**62, 9, 1, 2, 3, 4, 2**62 - 15, 1_767_225_600_000, True)
        other = Book("shop.visit", OTHER_SOURCE, 0, 0, 0, 0)
        store = open()
        store.write([], [replace(book, stored=0, closed=False), other])
        store.write([], [book])
        assert _by_key(store.books()) == _by_key([book, other])
        assert _by_key(open().books()) == _by_key([book, other])

    def test_books_are_forgotten_together_with_what_replaces_them(self, open: Callable[[], Store]) -> None:
        """One write removes some books and replaces others; the events stay."""
        batch = batch_of(events_of(_numbered(1, 2)))
        total = Book("shop.order", OTHER_SOURCE, REMAINDER_TID, 0, 2, 0, stored=2)
        store = open()
        store.write([batch], [book_of(batch)])
        store.write([], [total], [batch.key])
        assert store.books() == [total]
        store = open()
        assert store.books() == [total]
        assert _numbers(list(store.read())) == [1, 2]

    def test_events_of_any_numbers_are_inserted_beside_those_that_are_there(self, open: Callable[[], Store]) -> None:
        """For `eventstorm copy`; what is sent again later is still stored once. Not all stores need to have it."""
        store: Any = open()
        if not hasattr(store, "insert"):
            pytest.skip("NOT TESTED: nothing can be copied into this store: it has no method `insert`")
        events = events_of(_numbered(*range(8)))
        batch = batch_of(events)
        store.write([batch_of(events[3:5])], [book_of(batch_of(events[3:5]))])
        store.insert([batch_of(events[:3]), batch_of(events[:1], "shop.visit", tid=1)], [])
        store.insert([batch_of(events[5:])], [book_of(batch)])
        assert len(list(store.read())) == 9
        store = open()
        store.write([batch], [])
        assert _numbers(list(store.read(["shop.order"]))) == list(range(8))
        assert store.books() == [book_of(batch)]

    def test_a_write_that_fails_leaves_nothing(self, open: Callable[[], Store]) -> None:
        """Neither of the events before the poisonous one, nor of the books."""
        good, poison = events_of(_numbered(1)), [Event(1, 0, b"\x06\0\0\0\x01\0")]
        store = open()
        with pytest.raises(Exception) as failed:  # noqa: PT011  # of whatever kind, it is the writer's to sort out
            store.write([batch_of(good), batch_of(poison)], [book_of(batch_of(good))])
        assert not isinstance(failed.value, StoreUnavailable)
        assert list(store.read()) == []
        assert store.books() == []
        store = open()
        store.write([batch_of(good)], [])
        assert _numbers(list(store.read())) == [1]

    def test_a_poisonous_event_alone_is_refused(self, open: Callable[[], Store]) -> None:
        """What the writer makes of such a failure: the rest is stored, and the books tell."""
        writer = _writer(open())
        documents = _numbered(*range(40))
        documents[17] = b"\x06\0\0\0\x01\0"
        for start in (0, 10, 20, 30):
            writer.put(_message(start, documents[start : start + 10]))
        assert writer.close(timeout_s=20) == 0
        store = open()
        assert _numbers(list(store.read())) == [number for number in range(40) if number != 17]
        [book] = store.books()
        assert (book.first_seq, book.next_seq, book.stored, book.refused) == (0, 40, 39, 1)

    def test_closing_flushes(self, open: Callable[[], Store]) -> None:
        """What was written is there after closing, and closing twice is harmless."""
        store = open()
        store.write([batch_of(events_of(_numbered(*range(100))))], [])
        store.close()
        store.close()
        assert _numbers(list(open().read())) == list(range(100))

    def test_maintaining_an_empty_and_a_full_store_is_harmless(self, store: Store) -> None:
        """Without `keep` and `keep_size`, nothing is ever removed."""
        store.maintain()
        store.write([batch_of(events_of(_numbered(1), ts_ms=0))], [])
        store.maintain()
        assert _numbers(list(store.read())) == [1]

    def test_a_killed_process_loses_at_most_what_it_had_not_committed(
        self, url: str, open: Callable[[], Store]
    ) -> None:
        """The store opens again, and its books and events are of the same moment."""
        with subprocess.Popen([sys.executable, "-c", _CHILD, url], stdout=subprocess.PIPE) as child:
            assert child.stdout is not None
            try:
                told = [int(child.stdout.readline()) for _ in range(5)]
            finally:
                child.kill()
            told += [int(line) for line in child.stdout.read().split(b"\n")[:-1]]
        store = open()
        numbers = _numbers(list(store.read()))
        [book] = store.books()
        assert numbers == list(range(len(numbers)))
        assert book.next_seq == book.stored == len(numbers) >= told[-1]
        store.write([batch_of(events_of(_numbered(-1), seq=len(numbers)))], [])
        assert len(list(store.read())) == len(numbers) + 1


# Writes batches of 200 events as fast as it can, and says after each how many are committed.
_CHILD = """
import sys
from eventstorm_sinks.batch import Book
from eventstorm_sinks.settings import SinkSettings
from eventstorm_sinks.stores import open_store
from eventstorm_sinks.stores.conformance import _numbered, batch_of, book_of, events_of

store = open_store(sys.argv[1], SinkSettings())
for start in range(0, 10**9, 200):
    batch = batch_of(events_of(_numbered(*range(start, start + 200)), seq=start, ts_ms=1000 * start))
    book = Book(batch.topic, batch.source, batch.tid, 0, start + 200, 0, stored=start + 200)
    store.write([batch], [book])
    print(start + 200, flush=True)
"""


def _writer(store: Store) -> Writer:
    writer = Writer("under test", store, queue_bytes=2**26, commit_s=0.05, batch_events=1000)
    writer.start()
    return writer


def _message(seq: int, documents: Sequence[bytes]) -> Message:
    header = Header(SOURCE.id, 0, seq, len(documents), 0, 0, SOURCE.host, SOURCE.service, SOURCE.pid)
    return Message("shop.order", header, b"".join(encode_event(1000 * seq, document) for document in documents))


def _by_key(books: Sequence[Book]) -> dict[Any, Book]:
    assert len({book.key for book in books}) == len(books)
    return {book.key: book for book in books}


def _comparable(document: bytes) -> Any:
    """Decode so that equal means the same types and bits, which Python's ``==`` does not.

    The order of names is left out: a store may keep them sorted, as DuckDB's VARIANT does.
    """
    return _typed(bson.decode(document, _OPTIONS))


def _typed(value: Any) -> Any:
    if isinstance(value, dict):
        return sorted((key, _typed(each)) for key, each in value.items())
    if isinstance(value, list):
        return ["list", *map(_typed, value)]
    if isinstance(value, bson.Code):
        return ("Code", str(value), _typed(value.scope))
    if isinstance(value, bson.Binary):
        return ("Binary", bytes(value), value.subtype)
    return (type(value).__name__, repr(value))
