"""DuckDB when it is asked for more than it can do."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import bson
import duckdb
import pytest

from eventstorm.wire import Event, Events
from eventstorm_sinks.batch import Batch, Book, Source
from eventstorm_sinks.settings import SinkSettings
from eventstorm_sinks.stores import StoreUnavailable
from eventstorm_sinks.stores.duckdb import DuckdbStore

SOURCE = Source(b"0123456789ab", "host-1", "shop", 7)


def write(store: DuckdbStore, seq: int, size_bytes: int) -> None:
    """Write one event with so many bytes in it."""
    event = Event(seq, 1_700_000_000_000, bson.encode({"bytes": b"z" * size_bytes}))
    store.write(
        [Batch("shop.order", SOURCE, 0, Events.of([event]))], [Book("shop.order", SOURCE, 0, 0, seq + 1, 0, stored=1)]
    )


def test_an_event_too_large_for_the_memory_is_refused_and_the_store_goes_on(tmp_path: Path) -> None:
    # Were the store "unavailable", the writer would try the same event again for ever.
    store = DuckdbStore(str(tmp_path / "events.duckdb"), SinkSettings(sql_memory="100MB"))
    with pytest.raises(ValueError, match="DuckDB is given at most"):
        write(store, 0, 60 * 2**20)
    with pytest.raises(ValueError, match="too much for sink"):
        write(store, 0, 15 * 2**20)
    write(store, 1, 10)
    assert [event.id[-1] for event in store.read()] == [1]
    store.close()


def test_many_large_events_get_the_memory_that_their_checkpoint_needs(tmp_path: Path) -> None:
    # All of the table's last row group must fit; with too little memory every later write would fail as well.
    store = DuckdbStore(str(tmp_path / "events.duckdb"), SinkSettings(sql_memory="64MB"))
    grew = 0
    for seq in range(70):
        while True:
            try:
                write(store, seq, 900_000)
                break
            except StoreUnavailable:
                grew += 1
                assert grew < 10
    store.close()
    store = DuckdbStore(str(tmp_path / "events.duckdb"), SinkSettings())
    assert len(list(store.read())) == 70
    write(store, 70, 10)
    assert len(list(store.read())) == 71
    assert grew
    store.close()


def test_a_path_deeper_than_any_document_is_refused(tmp_path: Path) -> None:
    store = DuckdbStore(str(tmp_path / "events.duckdb"), SinkSettings())
    with pytest.raises(ValueError, match="field: 2500 names"):
        store.series("shop.order", ".".join("a" * 2500), "avg", 0, 60, 1)
    store.close()


def test_what_was_committed_by_a_write_that_failed_is_not_stored_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # As when the commit is durable, but the checkpoint that DuckDB makes at its end finds no memory.
    store = DuckdbStore(str(tmp_path / "events.duckdb"), SinkSettings())

    @contextlib.contextmanager
    def commits_and_fails(connection: duckdb.DuckDBPyConnection) -> Iterator[None]:
        connection.begin()
        yield
        connection.commit()
        raise duckdb.FatalException("COMMIT succeeded and is durable, but the autocheckpoint failed")

    with monkeypatch.context() as failing:
        failing.setattr("eventstorm_sinks.stores.duckdb._transaction", commits_and_fails)
        with pytest.raises(StoreUnavailable):
            write(store, 0, 10)
    write(store, 0, 10)
    assert len(list(store.read())) == 1
    store.close()
