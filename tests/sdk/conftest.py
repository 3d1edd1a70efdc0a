"""Peers and sources for the tests of the SDK, and a look at its guard after each test."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from eventstorm import Source
from eventstorm.settings import SdkSettings
from eventstorm.source import _sources
from sdk.peer import Peer, wait_until


@pytest.fixture(autouse=True)
def no_fault() -> Iterator[None]:
    """Fail a test in which the SDK caught a fault of its own."""
    yield
    for source in list(_sources):
        assert "fault" not in source.stats()["dropped"]


@pytest.fixture
def peer() -> Iterator[Peer]:
    """A router whose subscriber wants everything."""
    with Peer(b"") as started:
        yield started


@pytest.fixture
def source_to() -> Iterator[Callable[..., Source]]:
    """Return a function that makes a source for an endpoint, with further settings; it is closed at the end."""
    made: list[Source] = []

    def make(endpoint: str, **settings: Any) -> Source:
        made.append(Source(SdkSettings(endpoint=endpoint, **settings)))
        return made[-1]

    yield make
    for each in made:
        each.close(0)


@pytest.fixture
def source(peer: Peer, source_to: Callable[..., Source]) -> Source:
    """A source that is connected to `peer` and knows what it wants."""
    made = source_to(peer.endpoint)
    made.wanted("some.topic")
    wait_until(lambda: made._emitter.interest.known, "the interest")
    return made
