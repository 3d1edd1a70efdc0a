"""Questions with conditions, where a store or its values are out of the ordinary."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import bson

from eventstorm.wire import Event
from eventstorm_sinks.batch import StoredEvent
from eventstorm_sinks.settings import SinkSettings
from eventstorm_sinks.stores import Readable, open_store
from eventstorm_sinks.stores._fold import SeriesFold
from eventstorm_sinks.stores.asked_where import AskedWhere
from eventstorm_sinks.stores.conformance import batch_of
from eventstorm_sinks.stores.where import Condition

HOUR_MS = 3_600_000


class Slow:
    """A store that takes long over any question, however little time it is about."""

    def __init__(self, store: Readable, pause_s: float) -> None:
        self._store, self._pause_s, self.questions = store, pause_s, 0

    def read(self, *arguments: Any) -> Iterator[StoredEvent]:
        """Read what the store has."""
        self.questions += 1
        time.sleep(self._pause_s)
        yield from self._store.read(*arguments)


def test_a_store_that_takes_long_over_any_question_is_asked_few(tmp_path: Path) -> None:
    store: Any = open_store(f"duckdb:{tmp_path / 'events.duckdb'}", SinkSettings())
    store.write([batch_of([Event(hour, hour * HOUR_MS, bson.encode({"n": hour})) for hour in range(10)])], [])
    slow = Slow(store, 0.25)

    found = AskedWhere(slow, store, [Condition("n", "<", 5)], 60).recent([], "", None, 20)
    store.close()

    assert [bson.decode(each.data)["n"] for each in found] == [4, 3, 2, 1, 0]
    assert slow.questions < 10


def test_percentiles_of_the_largest_numbers_are_numbers() -> None:
    for value in (sys.float_info.max, -sys.float_info.max, sys.float_info.min):
        fold = SeriesFold("p95", 0, 10, [""])
        fold.add("", 0, value)
        assert fold.series()[0].points == [(0, value)]
