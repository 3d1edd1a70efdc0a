"""What the MongoDB store asks of a server, shown by the commands that the driver sends to a real one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import bson
import pytest
from pymongo import MongoClient, monitoring
from pymongo.database import Database

from eventstorm.wire import Event
from eventstorm_sinks.settings import SinkSettings
from eventstorm_sinks.stores import StoreUnavailable, open_store
from eventstorm_sinks.stores.conformance import batch_of, book_of, events_of
from eventstorm_sinks.stores.mongodb import MongoStore, _reader


class Commands(monitoring.CommandListener):
    """Keeps what the driver sends."""

    def __init__(self) -> None:
        self.sent: list[Any] = []

    def started(self, event: monitoring.CommandStartedEvent) -> None:
        """Keep a command."""
        self.sent.append((event.command_name, event.command))

    def succeeded(self, event: monitoring.CommandSucceededEvent) -> None:
        """Do nothing."""

    def failed(self, event: monitoring.CommandFailedEvent) -> None:
        """Do nothing."""


@pytest.fixture
def commands(monkeypatch: pytest.MonkeyPatch) -> Commands:
    """What stores send that are opened from now on."""
    commands = Commands()
    place = "eventstorm_sinks.stores.mongodb._connect.MongoClient"
    monkeypatch.setattr(place, lambda *given, **named: MongoClient(*given, event_listeners=[commands], **named))
    return commands


@pytest.fixture
def open_it(database_url: str, commands: Commands) -> Iterator[Callable[..., MongoStore]]:
    """Return a function that opens the same store again, with some settings."""
    stores: list[MongoStore] = []

    def open_it(**settings: Any) -> MongoStore:
        stores.append(open_store(database_url, SinkSettings(**settings)))  # type: ignore[arg-type]
        return stores[-1]

    yield open_it
    for store in stores:
        store.close()


@pytest.mark.parametrize(
    ("options", "concern"),
    [("", {"w": "majority", "j": True}), ("?w=1", {"w": 1}), ("?w=2&journal=true", {"w": 2, "j": True})],
)
def test_writes_are_acknowledged_as_the_uri_says(
    database_url: str, commands: Commands, options: str, concern: dict[str, Any]
) -> None:
    """By a majority and its disks if it says nothing. Shown by the commands that the driver sends."""
    store = open_store(database_url + options, SinkSettings())
    batch = batch_of(events_of([bson.encode({"n": n}) for n in range(5000)]))
    store.write([batch], [book_of(batch)])
    store.close()
    inserts = [command for name, command in commands.sent if name == "insert"]
    # As one for the driver, however many they are.
    assert sum(len(bson.decode_all(part.raw)) for each in inserts for part in each["documents"]) == 5000
    assert all(each["ordered"] is False for each in inserts)
    written = [command["writeConcern"] for name, command in commands.sent if name in ("insert", "update")]
    assert all(each == concern for each in written)


def test_reading_goes_along_an_index_and_ends_at_the_server_when_it_ends_here(
    ferretdb_url: str, commands: Commands
) -> None:
    """The server has nothing to sort, however much there is, and no cursor is left open."""
    store = open_store(ferretdb_url, SinkSettings())  # the other server gives all at once
    store.write([batch_of(events_of([bson.encode({"n": n}) for n in range(1500)]))], [])
    commands.sent.clear()
    reading = store.read()
    next(reading)
    reading.close()  # type: ignore[attr-defined]
    [find] = [command for name, command in commands.sent if name == "find"]
    assert find["sort"] == {"ts": 1}
    assert [name for name, _ in commands.sent][-1] == "killCursors"
    store.close()


@pytest.mark.parametrize("ts_ms", [1000, 2**63 - 1, -(2**63)])
def test_events_of_one_millisecond_come_by_identity_however_many_they_are(
    open_it: Callable[..., MongoStore], monkeypatch: pytest.MonkeyPatch, ts_ms: int
) -> None:
    """In memory that has a bound: the server puts them in order."""
    monkeypatch.setattr(_reader, "_MOST_TIED", 7)
    store = open_it()
    seqs = [5, 6, 7, 8, 20, 21, 22, 23, 24, 25, 26, 27, 28, 40, 41, 42]
    times = [min(ts_ms + 5, 2**63 - 1) if seq >= 40 else ts_ms for seq in seqs]
    events = [Event(seq, at_ms, bson.encode({})) for seq, at_ms in zip(seqs, times, strict=True)]
    other = [Event(seq, ts_ms, bson.encode({})) for seq in range(3)]
    store.write([batch_of(events), batch_of(other, "shop.visit", tid=1)], [])
    found = [(each.ts_ms, each.id) for each in store.read()]
    assert len(found) == len(seqs) + 3
    assert found == sorted(found)
    assert len(list(store.read(["shop.order"], ts_ms, None))) == len(seqs)


def test_questions_and_maintenance_have_a_limit_of_time_that_the_server_knows(
    open_it: Callable[..., MongoStore], commands: Commands
) -> None:
    """`sql_timeout_s`: it gives up too, and goes on working for nobody."""
    store = open_it(sql_timeout_s=7, mongodb_collections="day", keep="30d")
    batch = batch_of([Event(n, 1000 * n, bson.encode({"n": n})) for n in range(5)])
    store.write([batch], [])
    commands.sent.clear()
    store.series("shop.order", "n", "sum", 0, 10, 10)
    store.series("shop.order", "n", "p50", 0, 10, 10)
    store.topics()
    store.recent([], "", None, 5)
    asked = {"aggregate", "find", "distinct", "drop"}
    store.maintain()
    limits = [(name, command.get("maxTimeMS")) for name, command in commands.sent if name in asked]
    assert {name for name, _ in limits} == asked
    assert [each for each in limits if each[1] is None or not 0 < each[1] <= 7000] == []


def test_a_time_series_collection_is_refused(
    open_it: Callable[..., MongoStore], database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would take an event twice. No server here has any: what MongoDB says of one is put into the answer."""
    real = Database.list_collections

    def listed(database: Any, **named: Any) -> list[Any]:
        assert named == {"filter": {"name": "events"}}
        return [{"name": each["name"], "type": "timeseries"} for each in real(database, **named)]

    with MongoClient(database_url) as client:
        client.get_default_database().create_collection("events")
    monkeypatch.setattr(Database, "list_collections", listed)
    store = open_it()
    with pytest.raises(StoreUnavailable, match=r"events: a time-series collection, .*give the sink another one"):
        store.books()
    with pytest.raises(StoreUnavailable, match="time-series"):
        store.write([batch_of(events_of([bson.encode({})]))], [])
    assert next(each for each in store.examine() if each.is_wrong).text.startswith("events: a time-series collection")
