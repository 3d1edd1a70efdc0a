"""What ``eventstorm check`` tells of a real MongoDB server's collections."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from typing import Any

import bson
import pytest
from pymongo import MongoClient

from eventstorm.commands import check
from eventstorm_sinks.settings import SinkSettings
from eventstorm_sinks.stores import open_store
from eventstorm_sinks.stores.conformance import batch_of, book_of, events_of


def checked(url: str, capsys: pytest.CaptureFixture[str]) -> tuple[int, list[str]]:
    """Return the command's exit code and its lines, without the store's name."""
    parser = argparse.ArgumentParser()
    check.add_arguments(parser)
    code = check.run(parser.parse_args([url]))
    return code, [line.removeprefix(f"{url}: ") for line in capsys.readouterr().out.splitlines()]


@pytest.fixture
def database(database_url: str) -> Iterator[Any]:
    """A collection with some events, as a sink leaves it; seen by somebody else."""
    store = open_store(database_url, SinkSettings(keep="1h"))
    batch = batch_of(events_of([bson.encode({"n": n}) for n in range(5)]))
    store.books()
    store.write([batch], [book_of(batch)])
    store.close()
    with MongoClient(database_url) as client:
        yield client.get_default_database()


def test_an_empty_database_lacks_nothing_and_stays_empty(database_url: str, capsys: pytest.CaptureFixture[str]) -> None:
    """A sink makes what it needs."""
    code, lines = checked(database_url, capsys)
    assert code == 0
    assert lines == [
        "books of 0 topics: stored 0 events, lost 0",
        "no events yet: a sink makes 'events' and its indexes when it starts",
    ]
    with MongoClient(database_url) as client:
        assert client.get_default_database().list_collection_names() == []


def test_the_indexes_are_shown(
    database_url: str, database: Any, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the age, if it is that of the settings."""
    monkeypatch.setenv("EVENTSTORM_SINK_KEEP", "1h")
    code, lines = checked(database_url, capsys)
    assert code == 0
    assert lines == [
        "books of 1 topics: stored 5 events, lost 0",
        "events: about 5 events",
        "events: index {topic: 1, ts: 1}",
        "events: index {ts: 1}, removes events after 3,600 s",
    ]


@pytest.mark.parametrize(("keep", "asked"), [("2h", "after 7,200 s"), ("", "none")])
def test_another_age_is_wrong(
    database_url: str,
    database: Any,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    keep: str,
    asked: str,
) -> None:
    """With what the index does, and what is asked for."""
    monkeypatch.setenv("EVENTSTORM_SINK_KEEP", keep)
    code, lines = checked(database_url, capsys)
    assert code == 1
    wrong = f"the index {{ts: 1}} removes events after 3,600 s, `keep` asks for {asked}; a sink changes it"
    assert wrong in lines[-1]


def test_a_missing_index_and_one_on_something_else_are_wrong(
    database_url: str, database: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    """Both are told, and left so."""
    database.events.drop_indexes()
    database.events.create_index("topic", name="topic_1_ts_1")
    code, lines = checked(database_url, capsys)
    assert code == 1
    assert "events: the index 'topic_1_ts_1' is on {'topic': 1}, not on {topic: 1, ts: 1}; drop it" in lines[-2]
    assert lines[-1] == "events: no index {ts: 1}; a sink makes it when it starts"
    assert len(list(database.events.list_indexes())) == 2
