"""Three nodes of a real Cassandra that are slow: each request goes to a second one, and both answer."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

import pytest
from cassandra.cluster import _NOT_SET, Session

from eventstorm.wire import Event
from eventstorm_sinks.settings import SinkSettings
from eventstorm_sinks.stores import StoreUnavailable, open_store
from eventstorm_sinks.stores.cassandra import _connect, _scan
from eventstorm_sinks.stores.cassandra._journal import Journal
from eventstorm_sinks.stores.conformance import DOCUMENTS, batch_of, events_of
from servers.test_cassandra_faults import BACK_S
from sinks.rig import wait_for

NOON_MS = 1_700_000_000_000


@pytest.fixture(autouse=True)
def _slow(monkeypatch: pytest.MonkeyPatch) -> None:
    """A millisecond is long."""
    monkeypatch.setattr(_connect, "_SPECULATE_S", 0.001)


def insisted(attempt: Callable[[], Any]) -> Any:
    """Do what nodes that are asked so much may not do in time, as a sink does: again and again."""
    done: list[Any] = []

    def is_done() -> bool:
        with contextlib.suppress(StoreUnavailable):
            done.append(attempt())
        return bool(done)

    wait_for(is_done, "an answer in time", BACK_S)
    return done[0]


def test_each_event_is_read_once(cluster_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The answer of a node that was given up is not taken for that to the next question."""
    monkeypatch.setattr(_scan, "_MOST_ROWS", 20)
    with contextlib.closing(open_store(cluster_url, SinkSettings())) as store:
        batch = batch_of(events_of([DOCUMENTS["plain"]] * 1000))
        insisted(lambda: store.write([batch], []))
        reader: Any = store
        for _ in range(2):
            found = insisted(lambda: [int.from_bytes(each.id[16:], "big") for each in reader.read()])
            assert found == list(range(1000))


def test_a_write_counts_when_all_its_rows_are_acknowledged(cluster_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A node that was given up, and answers after all, stands for no other."""
    requests: list[Any] = []
    execute_async, commit = Session.execute_async, Journal.commit
    left: list[int] = []

    def watch(session: Session, statement: Any, *arguments: Any, **named: Any) -> Any:
        future = execute_async(session, statement, *arguments, **named)
        if getattr(statement, "is_idempotent", False):
            requests.append(future)
        return future

    def look(*arguments: Any) -> None:
        # As the driver has it: whether all that wait for an answer have been told of it is a matter of moments.
        left.append(sum(each._final_result is _NOT_SET and each._final_exception is None for each in requests))
        commit(*arguments)

    monkeypatch.setattr(Session, "execute_async", watch)
    monkeypatch.setattr(Journal, "commit", look)
    with contextlib.closing(open_store(cluster_url, SinkSettings(cassandra_layout=("*=1s/8",)))) as store:
        for first in (0, 300, 600):
            events = [Event(seq, NOON_MS + 300 * seq, DOCUMENTS["plain"]) for seq in range(first, first + 300)]
            batch = batch_of(events)
            insisted(lambda batch=batch: store.write([batch], []))
    assert len(requests) > 270
    assert set(left) == {0}
