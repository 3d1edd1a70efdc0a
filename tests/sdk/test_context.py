"""Events carry what their context holds, and their own time where they are given one."""

from __future__ import annotations

import asyncio
import contextvars
import math
from collections.abc import Callable, Iterator
from datetime import datetime, timezone
from typing import Any

import bson
import pytest

import eventstorm
from eventstorm import Source
from eventstorm.context import common_fields
from eventstorm.testing import CapturedEvents, capture_events
from sdk.peer import Peer, wait_until


@pytest.fixture
def captured() -> Iterator[CapturedEvents]:
    """What the process's own source emits."""
    with capture_events() as events:
        yield events


def in_context(common: dict[str, Any], call: Callable[[], object]) -> None:
    """Call with these common fields."""

    def run() -> None:
        common_fields.set(common)
        call()

    contextvars.copy_context().run(run)


def test_events_carry_the_common_fields_of_their_context(captured: CapturedEvents) -> None:
    def emit() -> None:
        eventstorm.emit("a.b", {"x": 1}, y=2)
        eventstorm.emit_at("a.b", {"x": 2}, 0.0)
        with eventstorm.timed("a.c") as event:
            event["x"] = 3

    in_context({"trace_id": "t"}, emit)
    eventstorm.emit("a.b", x=4)

    assert captured.of("a.b") == [{"trace_id": "t", "x": 1, "y": 2}, {"trace_id": "t", "x": 2}, {"x": 4}]
    assert captured.of("a.c")[0].items() >= {"trace_id": "t", "x": 3}.items()


def test_a_field_of_the_event_beats_a_common_one(captured: CapturedEvents) -> None:
    in_context({"a": 1, "b": 1}, lambda: eventstorm.emit("a.b", {"a": 2}))
    assert captured.of("a.b") == [{"a": 2, "b": 1}]


def test_tasks_have_the_common_fields_of_their_own_context(captured: CapturedEvents) -> None:
    async def task(number: int) -> None:
        common_fields.set({"task": number})
        await asyncio.sleep(0)
        await asyncio.to_thread(eventstorm.emit, "a.b")

    async def main() -> None:
        await asyncio.gather(*map(task, range(5)))
        eventstorm.emit("a.b")

    asyncio.run(main())
    assert sorted(captured.of("a.b"), key=str) == [*({"task": number} for number in range(5)), {}]


def test_common_fields_that_cannot_be_encoded_refuse_the_event(source: Source) -> None:
    in_context({"a": object()}, lambda: source.emit("a.b"))
    assert source.stats()["dropped"] == {"unencodable": 1}


@pytest.mark.parametrize("ts_s", [0, 0.0, -1.5, 1_700_000_000.123, -(10.0**12), 10.0**12])
def test_an_event_can_have_another_time_than_now(source: Source, peer: Peer, ts_s: float) -> None:
    assert source.emit_at("a.b", {"x": 1}, ts_s)
    assert source.emit_encoded("a.b", bson.encode({"x": 2}), ts_s)
    assert peer.wait_for(2) == [{"x": 1}, {"x": 2}]
    times = [event.ts_ms for message in peer.messages for event in message.events()]
    assert times == [math.trunc(ts_s * 1000)] * 2


@pytest.mark.parametrize(
    "ts_s", [math.nan, math.inf, -math.inf, 10.0**16, 10**400, "now", None, datetime.now(timezone.utc)]
)
def test_a_time_that_is_none_refuses_the_event(source: Source, ts_s: Any) -> None:
    assert not source.emit_at("a.b", {"x": 1}, ts_s)
    assert source.stats()["dropped"] == {"bad_time": 1}
    if ts_s is not None:  # which stands for now there
        assert not source.emit_encoded("a.b", bson.encode({"x": 1}), ts_s)
        assert source.stats()["dropped"] == {"bad_time": 2}
    assert "no number of seconds" in source.example("bad_time")


def test_emit_at_refuses_what_emit_refuses(source: Source, source_to: Callable[..., Source]) -> None:
    assert not source.emit_at("A", {}, 0)
    assert not source.emit_at("a.b", {"x": object()}, 0)
    assert not source.emit_at("a.b", {"x": "y" * 2**20}, 0)
    assert not source.emit_at("a.b", None, 0)  # type: ignore[arg-type]
    assert source.stats()["dropped"] == {"bad_topic": 1, "too_large": 1, "unencodable": 2}
    silent = source_to("")
    silent.emit("a.b")
    wait_until(lambda: not silent.wanted("a.b"), "that nobody listens")
    assert not silent.emit_at("a.b", {"x": object()}, 0)
    assert silent.stats()["topics"]["a.b"]["unheard"] >= 1


def test_emit_at_keeps_to_the_bound_of_the_buffer(source_to: Callable[..., Source]) -> None:
    source = source_to("tcp://127.0.0.1:9", buffer_bytes=2**20, max_event_bytes=2**18)
    accepted = 0
    while source.emit_at("a.b", {"x": "y" * 10_000}, 0):
        accepted += 1
    assert 90 <= accepted <= 105
    assert source.stats()["dropped"] == {"buffer_full": 1}


def test_an_event_can_be_encoded_already(source: Source, peer: Peer) -> None:
    in_context({"common": 1}, lambda: source.emit_encoded("a.b", bson.encode({"x": {"y": [1]}})))
    assert peer.wait_for(1) == [{"x": {"y": [1]}}]


@pytest.mark.parametrize(
    "data",
    [b"", b"\5\0\0", b"\6\0\0\0\0", b"\5\0\0\0\0\0", bytearray(bson.encode({})), "text", None, {"x": 1}],
    ids=repr,
)
def test_bytes_that_are_no_document_are_refused(source: Source, data: Any) -> None:
    assert not source.emit_encoded("a.b", data)
    assert source.stats()["dropped"] == {"unencodable": 1}


def test_emit_encoded_refuses_and_counts_what_emit_does(source_to: Callable[..., Source]) -> None:
    source = source_to("tcp://127.0.0.1:9", buffer_bytes=2**20, max_event_bytes=2**18)
    assert not source.emit_encoded("A", bson.encode({}))
    assert not source.emit_encoded("a.b", bson.encode({"x": "y" * 2**18}))
    accepted = 0
    while source.emit_encoded("a.b", bson.encode({"x": "y" * 10_000})):
        accepted += 1
    assert 90 <= accepted <= 105
    assert source.stats()["dropped"] == {"bad_topic": 1, "too_large": 1, "buffer_full": 1}
    silent = source_to("")
    silent.emit("a.b")
    wait_until(lambda: not silent.wanted("a.b"), "that nobody listens")
    assert not silent.emit_encoded("a.b", b"")
    assert silent.stats()["topics"]["a.b"]["unheard"] >= 1
