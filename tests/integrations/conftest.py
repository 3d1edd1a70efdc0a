"""A look at the integrations' guard after each test, and a place for what they emit."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from eventstorm_integrations._guard import guard
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
