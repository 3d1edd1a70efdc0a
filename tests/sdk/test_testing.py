"""`capture_events` shows users' tests what their program emits."""

from __future__ import annotations

import pytest

import eventstorm
from eventstorm.testing import capture_events


def test_captured_events_are_what_a_store_would_give_back() -> None:
    with capture_events() as events:
        assert eventstorm.wanted("shop.order")
        assert eventstorm.emit("shop.order", {"total": 42.5}, items=(1, 2))
        eventstorm.emit("shop.visit")
        assert len(events) == 2
    assert events.of("shop.order") == [{"total": 42.5, "items": [1, 2]}]
    assert [event.topic for event in events] == ["shop.order", "shop.visit"]
    assert events[1].data == {}


def test_events_of_a_block_that_failed_can_be_looked_at() -> None:
    with pytest.raises(EOFError), capture_events() as events:
        raise EOFError(eventstorm.emit("shop.order"))
    assert len(events) == 1


def test_nothing_is_left_of_a_capture() -> None:
    before = eventstorm.stats()
    with capture_events():
        eventstorm.emit("shop.order")
    assert eventstorm.stats() == before


def test_events_are_captured_after_the_sdk_was_closed() -> None:
    eventstorm.close(0)
    try:
        with capture_events() as events:
            assert eventstorm.emit("shop.order")
        assert len(events) == 1
        assert eventstorm.emit("shop.order") is False
    finally:
        eventstorm.configure()
