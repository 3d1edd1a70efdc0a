"""Conditions on what is in events: what people write is read as it is meant, and stores choose as it says."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import bson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from eventstorm.errors import SettingError
from eventstorm_sinks.batch import StoredEvent
from eventstorm_sinks.settings import SinkSettings
from eventstorm_sinks.stores import open_store
from eventstorm_sinks.stores.conformance import SOURCE, batch_of, events_of
from eventstorm_sinks.stores.where import Condition, chosen, parse_condition

VALUES = st.one_of(
    st.integers(-(2**63), 2**63 - 1) | st.integers(-3, 3) | st.sampled_from([2**53, 2**53 + 1, -(2**53) - 1]),
    st.floats(allow_nan=False) | st.sampled_from([0.5, -0.0, 1e300, 2.0**53]),
    st.sampled_from(["", "1", "true", "a", "ä", "\U0001f980", "'", '"', "null", "$x", "a\0b"]) | st.booleans(),
    st.none(),
)
PATHS = st.sampled_from(["a", "A", "a.b", "a.0", "$where", "'", "b"])
DOCUMENTS = st.dictionaries(
    st.sampled_from(["a", "A", "b", "0", "$where", "'"]),
    VALUES | st.lists(VALUES, max_size=2) | st.dictionaries(st.sampled_from(["b", "0"]), VALUES),
    max_size=3,
)


@pytest.mark.parametrize(
    ("said", "condition"),
    [
        ("http.response.status_code>=500", Condition("http.response.status_code", ">=", 500)),
        (" duration < 0.5 ", Condition("duration", "<", 0.5)),
        ("url.path=/a?b=c>d", Condition("url.path", "=", "/a?b=c>d")),
        ('user.id="42"', Condition("user.id", "=", "42")),
        ("text=", Condition("text", "=", "")),
        ("text=[half", Condition("text", "=", "[half")),
        ("yes!=true", Condition("yes", "!=", True)),
        ("user=null", Condition("user", "=", None)),
        ("load=NaN", Condition("load", "=", "NaN")),
        ("large<1e999", Condition("large", "<", math.inf)),
        ("large<1" + "0" * 400, Condition("large", "<", math.inf)),
        ('large>{"$numberLong": "99999999999999999999"}', Condition("large", ">", 1e20)),
        ('at>={"$date": "1969-12-31T23:59:59.999Z"}', Condition("at", ">=", bson.DatetimeMS(-1))),
    ],
)
def test_a_condition_is_read_as_it_is_meant(said: str, condition: Condition) -> None:
    assert parse_condition(said, "--where") == condition


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ("status", "no operator in it"),
        ("=5", "needs the path of a field"),
        ("a<true", "take = or != for a boolean"),
        ("a>null", "take = or != for a null"),
        ("a=[1]", "cannot be compared"),
        ('a={"b": 1}', "cannot be compared"),
        (".".join("a" * 200) + "=1", "at most 100"),
        ("a=" + "[" * 100_000 + "]" * 100_000, ""),
        ('a={"$binary": {"base64": "aa"}}', ""),
        ('a="\\ud800"', "half of a pair of surrogates"),
        ("\ud800=1", "half of a pair of surrogates"),
    ],
)
def test_a_condition_that_makes_no_sense_is_told_or_taken_for_a_text(said: str, told: str) -> None:
    if told:
        with pytest.raises(SettingError, match=told) as error:
            parse_condition(said, "--where")
        assert str(error.value).startswith("--where: ")
    else:
        assert isinstance(parse_condition(said, "--where").value, str)


def test_what_is_no_document_matches_nothing() -> None:
    event = StoredEvent(bytes(24), 0, "shop", SOURCE, b"no document")
    assert list(chosen(iter([event]), [Condition("a", "!=", 5)])) == []


@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(
    st.lists(DOCUMENTS, min_size=1, max_size=20),
    st.lists(st.tuples(PATHS, st.sampled_from(["=", "!=", "<", "<=", ">", ">="]), VALUES), min_size=1, max_size=30),
)
def test_what_duckdb_leaves_out_beforehand_does_not_match(
    tmp_path_factory: pytest.TempPathFactory, documents: list[dict[str, Any]], said: list[tuple[str, str, Any]]
) -> None:
    store = open_store(f"duckdb:{tmp_path_factory.mktemp('where') / 'events'}", SinkSettings())
    try:
        store.write([batch_of(events_of([bson.encode(each) for each in documents]))], [])
        everything = list(store.read())
        for path, sign, value in said:
            if sign in ("=", "!=") or not (value is None or isinstance(value, bool)):
                where = [Condition(path, sign, value)]
                assert list(store.read(where=where)) == list(chosen(iter(everything), where)), where
    finally:
        store.close()


def test_duckdb_fetches_only_what_may_match(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    looked_at: list[StoredEvent] = []

    def choose(events: Any, where: Any) -> Any:
        looked_at.extend(events)
        return chosen(iter(looked_at), where)

    monkeypatch.setattr("eventstorm_sinks.stores.duckdb._reader.chosen", choose)
    store = open_store(f"duckdb:{tmp_path / 'events'}", SinkSettings())
    store.write([batch_of(events_of([bson.encode({"a": {"b": number}}) for number in range(1000)]))], [])
    assert len(list(store.read(where=[Condition("a.b", ">=", 990)]))) == 10
    assert len(looked_at) == 10
    store.close()
