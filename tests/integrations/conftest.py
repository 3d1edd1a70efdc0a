"""A look at the integrations' guard after each test, and a place for what they emit."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest

import eventstorm.testing
from eventstorm.testing import CapturedEvents
from eventstorm_integrations._guard import guard
from eventstorm_integrations.logging import EventstormHandler
from integrations.recorded import Recorded


@pytest.fixture
def expected_faults() -> set[str]:
    """The reasons that a test provokes: it adds them."""
    return set()


@pytest.fixture(autouse=True)
def no_fault(expected_faults: set[str]) -> Iterator[None]:
    """Fail a test in which the guard caught what the test did not expect."""
    before = guard.counts()
    yield
    caught = {
        reason
        for reason, count in guard.counts().items()
        if reason.endswith((".fault", ".hook")) and count > before.get(reason, 0)
    }
    assert caught == expected_faults


@pytest.fixture
def recorded() -> Recorded:
    """Where a middleware of a test emits to."""
    return Recorded()


@pytest.fixture
def events() -> Iterator[CapturedEvents]:
    with eventstorm.testing.capture_events() as captured:
        yield captured


@pytest.fixture
def log(events: CapturedEvents) -> logging.Logger:
    """A logger whose one handler is ours; unknown to pytest, which adds handlers to all that it finds."""
    logger = logging.Logger("shop.orders", level=1)
    logger.addHandler(EventstormHandler())
    return logger
