"""The journal of the MongoDB store: each step that a write may end at, what comes late, and sinks that are deposed."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from itertools import islice
from types import SimpleNamespace
from typing import Any

import bson
import pytest
from pymongo.errors import AutoReconnect, BulkWriteError, NetworkTimeout

from eventstorm_sinks.batch import Batch
from eventstorm_sinks.settings import SinkSettings
from eventstorm_sinks.share import Share
from eventstorm_sinks.stores import StoreUnavailable, open_archive
from eventstorm_sinks.stores.conformance import DOCUMENTS, SOURCE, batch_of, book_of, events_of
from eventstorm_sinks.stores.mongodb import MongoStore
from eventstorm_sinks.stores.mongodb._books import read_books
from eventstorm_sinks.stores.mongodb._connect import RAW
from eventstorm_sinks.stores.mongodb._envelope import encode_events
from eventstorm_sinks.stores.mongodb._journal import LATE_S, Journal
from eventstorm_sinks.stores.mongodb._late import Span

Open = Callable[..., MongoStore]


@pytest.fixture(params=["mongo-java-server", "FerretDB"])
def database_url(database_url: str, request: pytest.FixtureRequest) -> str:
    """The URL of a new database on each kind of server, whose answers to updates differ."""
    return str(request.getfixturevalue("ferretdb_url")) if request.param == "FerretDB" else database_url


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("step", ["intend", "insert", "commit", "apply"])
@pytest.mark.parametrize("goes_on", ["the same sink", "another sink"])
def test_a_write_that_ends_anywhere_counts_as_a_whole_or_not_at_all(
    open_it: Open, monkeypatch: pytest.MonkeyPatch, step: str, after: bool, goes_on: str
) -> None:
    """The same sink tries again; another finds books and events of the same moment."""
    store = open_it()
    first, second = batch_of(events_of([DOCUMENTS["plain"]] * 3)), batch_of(events_of([DOCUMENTS["plain"]] * 4, seq=3))
    store.write([first], [book_of(first)])
    broken = [True]

    def breaking(real: Callable[..., Any], is_it: Callable[..., bool] = lambda *_: True) -> Callable[..., Any]:
        def call(*arguments: Any) -> Any:
            if not (broken and is_it(*arguments)):
                return real(*arguments)
            if after:
                real(*arguments)
            broken.clear()
            raise AutoReconnect("cut off")

        return call

    if step == "insert":
        monkeypatch.setattr(MongoStore, "_insert_all", breaking(MongoStore._insert_all))
    elif step == "apply":
        monkeypatch.setattr(Journal, "_apply", breaking(Journal._apply))
    else:
        state = {"intend": "intent", "commit": "commit"}[step]
        replace = breaking(Journal._replace, lambda _, document: document["state"] == state)
        monkeypatch.setattr(Journal, "_replace", replace)
    total = book_of(batch_of(events_of([DOCUMENTS["plain"]] * 7)))
    with pytest.raises(StoreUnavailable, match="cut off"):
        store.write([second], [total])
    assert not broken
    if goes_on == "the same sink":
        store.write([second], [total])
        stored = 7
    else:
        store = open_it()
        stored = 7 if step == "apply" or (step == "commit" and after) else 3
    assert [book.stored for book in store.books()] == [stored]
    assert len(list(store.read())) == stored


@pytest.fixture
def begun(open_it: Open, monkeypatch: pytest.MonkeyPatch) -> Batch:
    """A batch of which a sink that was killed has said that it would insert it."""
    batch = batch_of(events_of([DOCUMENTS["plain"]] * 3))
    killed = open_it()
    with monkeypatch.context() as patched:
        patched.setattr(MongoStore, "_insert_all", lambda *_: (_ for _ in ()).throw(AutoReconnect("paused")))
        with pytest.raises(StoreUnavailable):
            killed.write([batch], [book_of(batch)])
    return batch


def insert_late(database: Any, batch: Batch) -> None:
    """Insert what a sink had sent, as far as it is not there, when that sink is gone."""
    with contextlib.suppress(BulkWriteError):
        database.events.insert_many(bson.decode_all(encode_events(batch, batch.events), RAW), ordered=False)


def numbers_in(database: Any) -> list[int]:
    """Return the numbers of the events that are there."""
    return sorted(int.from_bytes(each["_id"][16:], "big") for each in database.events.find())


def test_what_a_server_inserts_late_is_removed_again(open_it: Open, database: Any, begun: Batch) -> None:
    """After the next sink has removed what a killed one had begun: in time, at its end, or when one starts."""
    store = open_it()
    assert store.books() == []
    for look in (store.maintain, store.close, lambda: open_it().books()):
        insert_late(database, begun)
        look()
        assert numbers_in(database) == []


@pytest.mark.parametrize("numbers", [[0, 1, 2], [1], [2], [0, 2], [2, 3, 4]], ids=str)
def test_what_comes_late_and_by_the_right_way_too_stays(
    open_it: Open, database: Any, begun: Batch, numbers: list[int]
) -> None:
    """And of a write that has but some of these numbers, those alone."""
    store = open_it()
    assert store.books() == []
    batch = batch_of([event for event in events_of([DOCUMENTS["plain"]] * 5) if event.seq in numbers])
    store.write([batch], [book_of(batch)])
    for look in (store.maintain, store.close, lambda: open_it().books()):
        insert_late(database, begun)
        look()
        assert numbers_in(database) == numbers


@pytest.mark.parametrize("first", ["the next sink", "the copy"])
@pytest.mark.parametrize("said", ["events", "a book", "both"])
def test_what_is_copied_stays_though_a_killed_sink_had_begun_it(
    open_it: Open, database_url: str, database: Any, begun: Batch, first: str, said: str
) -> None:
    """Its book says that it is stored. Where the copy finds an event that came late it inserts the book alone."""
    if first == "the next sink":
        store = open_it()
        assert store.books() == []
    if said == "a book":
        insert_late(database, begun)
    with contextlib.closing(open_archive(database_url, SinkSettings())) as archive:
        archive.insert([] if said == "a book" else [begun], [] if said == "events" else [book_of(begun)])
    if first == "the copy":
        store = open_it()
        assert len(store.books()) == (0 if said == "events" else 1)
    for look in (store.maintain, store.close, lambda: open_it().books()):
        look()
        assert numbers_in(database) == [0, 1, 2]


def test_of_what_a_killed_sink_had_begun_that_alone_stays_which_is_copied(
    open_it: Open, database_url: str, database: Any, begun: Batch
) -> None:
    with contextlib.closing(open_archive(database_url, SinkSettings())) as archive:
        for number in (0, 2):
            archive.insert([replace(begun, events=begun.events[number : number + 1])], [])
    insert_late(database, begun)
    assert open_it().books() == []
    assert numbers_in(database) == [0, 2]


@pytest.mark.parametrize("division", [1, 2], ids=["as a whole", "as a share"])
def test_a_sink_that_was_taken_over_removes_nothing_late(
    open_it: Open, database: Any, begun: Batch, division: int
) -> None:
    """Since these very events may have come to its successor by the right way."""
    deposed = open_it()
    assert deposed.books() == []
    shares = [Share(number, division) for number in range(1, division + 1)]
    [share] = [str(each) for each in shares if each.takes(begun.topic, SOURCE.id)]
    open_it(share=share).write([begun], [book_of(begun)])
    deposed.maintain()
    deposed.close()
    assert numbers_in(database) == [0, 1, 2]


def test_a_store_that_is_closed_during_a_write_removes_nothing_late(
    open_it: Open, database: Any, begun: Batch, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A write that hangs is left behind when a sink ends, and may be of these very events."""
    store = open_it()
    assert store.books() == []
    intend = Journal.intend

    def hang(self: Journal, spans: Any) -> None:
        store.close()
        intend(self, spans)

    monkeypatch.setattr(Journal, "intend", hang)
    monkeypatch.setattr(Journal, "remove_late", lambda _: pytest.fail("it looked for what is late"))
    with pytest.raises(StoreUnavailable):
        store.write([begun], [book_of(begun)])


def test_two_sinks_do_not_write_the_same_books(open_it: Open) -> None:
    """The last one to start does."""
    first, second = open_it(), open_it()
    batch = batch_of(events_of([DOCUMENTS["plain"]] * 3))
    first.books()
    second.books()
    for _ in range(2):
        with pytest.raises(StoreUnavailable, match="another sink has begun to write"):
            first.write([batch], [book_of(batch)])
    second.write([batch], [book_of(batch)])
    assert len(list(second.read())) == 3


def test_a_sink_that_was_taken_over_during_an_insertion_that_fails_undoes_nothing(
    open_it: Open, database: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Since its successor may have stored these very events."""
    deposed, successor = open_it(), open_it()
    batch = batch_of(events_of([DOCUMENTS["plain"]] * 3))
    insert_all = MongoStore._insert_all

    def take_over(*_: Any) -> None:
        monkeypatch.setattr(MongoStore, "_insert_all", insert_all)
        successor.write([batch], [book_of(batch)])
        raise ValueError("refused")

    monkeypatch.setattr(MongoStore, "_insert_all", take_over)
    with pytest.raises(StoreUnavailable, match="another sink has begun to write"):
        deposed.write([batch], [book_of(batch)])
    assert numbers_in(database) == [0, 1, 2]


def test_a_database_that_is_dropped_under_a_sink_is_made_anew(open_it: Open, database: Any) -> None:
    """Books go on from where the sink knows them to be; what was dropped is gone."""
    store = open_it()
    first, second = batch_of(events_of([DOCUMENTS["plain"]] * 3)), batch_of(events_of([DOCUMENTS["plain"]] * 4, seq=3))
    store.write([first], [book_of(first)])
    database.client.drop_database(database.name)
    store.write([second], [book_of(batch_of(events_of([DOCUMENTS["plain"]] * 7)))])
    assert len(list(store.read())) == 4


STALE, OTHER = (batch_of(events_of([DOCUMENTS["plain"]] * 3), tid=tid) for tid in (0, 1))
LATER = batch_of(events_of([DOCUMENTS["plain"]] * 4, seq=3))
ALL = book_of(batch_of(events_of([DOCUMENTS["plain"]] * 7)))


@pytest.mark.parametrize("divided", [False, True], ids=["as a whole", "as a share"])
@pytest.mark.parametrize(
    ("stale", "newer", "expected"),
    [
        (([STALE], [book_of(STALE)], []), ([LATER], [ALL], []), 7),
        (([STALE], [book_of(STALE)], []), ([], [], [STALE.key]), None),
        (([], [], [STALE.key]), ([LATER], [ALL], []), 7),
    ],
    ids=["a book", "a book of what was forgotten", "to forget what has come again"],
)
def test_what_a_sink_had_left_to_do_when_it_stalled_undoes_nothing_newer(
    open_it: Open,
    monkeypatch: pytest.MonkeyPatch,
    divided: bool,
    stale: tuple[Any, Any, Any],
    newer: tuple[Any, Any, Any],
    expected: int | None,
) -> None:
    """It had committed, and wakes when another has taken over and written more."""
    stalling = open_it()
    if stale[2]:
        stalling.write([STALE], [book_of(STALE)])
    share = next(str(each) for each in (Share(1, 2), Share(2, 2)) if each.takes(STALE.topic, SOURCE.id))
    apply = Journal._apply

    def stall(self: Journal, *arguments: Any) -> None:
        monkeypatch.setattr(Journal, "_apply", apply)
        successor = open_it(share=share if divided else "1/1")
        successor.write(*newer)
        successor.write([OTHER], [book_of(OTHER)])  # so that its journal says no more of the first stream
        apply(self, *arguments)

    monkeypatch.setattr(Journal, "_apply", stall)
    stalling.write(*stale)
    assert {book.tid: book.stored for book in open_it().books()} == ({0: expected} if expected else {}) | {1: 3}


def test_looking_for_what_is_late_goes_on_where_its_time_had_ended_and_keeps_nothing_else_from_being_done(
    open_it: Open, database: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What has been looked for after its time is not looked for again."""
    with monkeypatch.context() as patched:
        patched.setattr(MongoStore, "_insert_all", lambda *_: (_ for _ in ()).throw(AutoReconnect("paused")))
        with pytest.raises(StoreUnavailable):
            open_it().write([STALE, OTHER], [])
    store = open_it(mongodb_collections="day", keep="30d")
    assert store.books() == []
    for batch in (STALE, OTHER):
        insert_late(database, batch)
    database.events_20000101.insert_one({"_id": bytes(24)})
    database.events_books.insert_one({"_id": bytes(12), "write": 1, "gone_s": 0.0})
    later_s = time.time() + LATE_S + 1
    monkeypatch.setattr("eventstorm_sinks.stores.mongodb._journal.time", SimpleNamespace(time=lambda: later_s))
    removed: list[Span] = []
    remove = Journal._remove

    def remove_one(self: Journal, spans: Iterable[Span]) -> None:
        for span in spans:
            if removed:
                raise NetworkTimeout("no time left")
            removed.append(span)
            remove(self, [span])

    monkeypatch.setattr(Journal, "_remove", remove_one)
    with pytest.raises(StoreUnavailable, match="no time left"):
        store.maintain()
    assert numbers_in(database) == [0, 1, 2]
    assert "events_20000101" not in database.list_collection_names()
    assert database.events_books.count_documents({"gone_s": {"$exists": True}}) == 0
    removed.clear()
    store.maintain()
    assert numbers_in(database) == []


def test_a_stream_that_was_forgotten_leaves_nothing_after_a_while(
    open_it: Open, database: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And one that came again stays."""
    store = open_it()
    for batch in (STALE, OTHER):
        store.write([batch], [book_of(batch)])
    store.write([], [], [STALE.key, OTHER.key])
    store.write([OTHER], [book_of(OTHER)])
    assert database.events_books.count_documents({}) == 3  # the journal, and what is left of the stream
    monkeypatch.setattr("eventstorm_sinks.stores.mongodb._journal.LATE_S", -1)
    store.maintain()
    assert database.events_books.count_documents({}) == 2
    assert [book.tid for book in store.books()] == [1]


def test_books_go_on_though_somebody_has_removed_the_journal(open_it: Open, database: Any) -> None:
    """Sums too, which have a book alone: their last write is known from them."""
    store = open_it()
    total = replace(book_of(STALE), tid=99)
    for _ in range(3):
        store.write([], [total])
    database.events_books.delete_many({"owner": {"$exists": True}})
    store = open_it()
    store.write([], [replace(total, next_seq=7, stored=7)])
    store.write([OTHER], [book_of(OTHER)])
    assert {book.tid: book.stored for book in store.books()} == {1: 3, 99: 7}


class Interleaved:
    """A collection that is written to after each question."""

    def __init__(self, collection: Any, writes: Iterable[Callable[[], None]]) -> None:
        self._collection, self._writes = collection, iter(writes)

    def find(self, *arguments: Any) -> list[Any]:
        """Answer, and write."""
        found = list(self._collection.find(*arguments))
        next(self._writes, lambda: None)()
        return found


@pytest.mark.parametrize("when", range(4))
@pytest.mark.parametrize("at_once", [1, 2, 3])
def test_books_that_are_read_while_streams_are_folded_count_each_event_once(
    open_it: Open, database: Any, when: int, at_once: int
) -> None:
    """Wherever between the questions the writes are."""
    store = open_it()
    batches = [batch_of(events_of([DOCUMENTS["plain"]] * 3), tid=tid) for tid in range(3)]
    store.write(batches, [book_of(batch) for batch in batches])
    folded = iter(range(3))

    def fold() -> None:
        for number in islice(folded, at_once):
            total = replace(
                book_of(batches[0]), tid=99, first_seq=0, next_seq=3 * (number + 1), stored=3 * (number + 1)
            )
            store.write([], [total], [batches[number].key])

    writes: list[Callable[[], None]] = [lambda: None] * when + [fold] * 3
    reader = Interleaved(database.events_books.with_options(RAW), writes)
    assert sum(book.stored for book in read_books(reader)) == 9  # type: ignore[arg-type]
