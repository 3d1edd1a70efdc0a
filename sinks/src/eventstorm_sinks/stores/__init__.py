"""Stores: where events end up. A built-in and a stranger's plug-in come in through the same door.

A store is a class registered under the entry-point group ``eventstorm.stores``; the entry's name is the scheme of its
URLs: ``duckdb:events.duckdb``. `eventstorm_sinks.stores.conformance` tests whether one keeps its promises.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import entry_points
from typing import Any, Protocol, runtime_checkable

from eventstorm.errors import EventstormError, SettingError
from eventstorm.settings import nearest
from eventstorm_sinks.batch import Batch, Book, StoredEvent, StreamKey
from eventstorm_sinks.settings import SinkSettings

__all__ = ["Reader", "Series", "SqlResult", "Store", "StoreUnavailable", "TopicSummary", "open_store", "redacted"]


class StoreUnavailable(EventstormError):
    """The store cannot write now but may later: its disk is full, its server is away. Nothing was written."""


class Store(Protocol):
    """Where events are written and read back. Constructing one opens it, and makes what it needs.

    Its constructor takes the part of the URL after the scheme's colon and the sink's settings, and raises
    `eventstorm.errors.StartError`. One thread writes, any thread may read. A store whose server is away when it is
    constructed may leave the opening to the first call that needs it.
    """

    def __init__(self, location: str, settings: SinkSettings) -> None: ...

    def write(self, batches: Sequence[Batch], books: Sequence[Book], forget: Sequence[StreamKey] = ()) -> None:
        """Write the events and replace the books of their streams, all or nothing, and durably.

        An event whose identity is there already is left as it is. The batches of one stream come in the order of their
        numbers. `books` may name streams that no batch does. The books of the streams in `forget` are removed in the
        same transaction: their numbers are in one of `books` now.

        Raises:
            StoreUnavailable: try the same again later.
            Exception: something in the batches cannot be stored; the caller splits them to find out which.
        """

    def books(self) -> list[Book]:
        """Return the books last written, to go on from after a restart.

        Called before anything is written, by the writing thread or before there is one.

        Raises:
            StoreUnavailable: the store is away; it is asked again before anything is written.
        """
        raise NotImplementedError

    def read(
        self, topics: Sequence[str] = (), start_ms: int | None = None, stop_ms: int | None = None
    ) -> Iterator[StoredEvent]:
        """Yield events in the order of time, then identity.

        Of some topics or all, from `start_ms` to before `stop_ms`.
        """
        raise NotImplementedError

    def maintain(self) -> None:
        """Do what comes up now and then, retention above all. Called by the writer about once a minute."""

    def close(self) -> None:
        """Flush and close. A second call does nothing."""


@dataclass(frozen=True, slots=True)
class SqlResult:
    """What a query gave: plain values that JSON can hold (int, float, str, bool, None, list, dict)."""

    columns: list[str]
    types: list[str]
    rows: list[list[Any]]
    truncated: bool
    """There were more rows than asked for."""


@dataclass(frozen=True, slots=True)
class TopicSummary:
    """What a store holds of a topic."""

    topic: str
    events: int
    first_ms: int
    last_ms: int


@dataclass(frozen=True, slots=True)
class Series:
    """Values over time: one line of a graph."""

    name: str
    """The value of the field that lines were split by, or ''."""
    points: list[tuple[int, float | None]]
    """(start of the step in seconds since 1970, value), in order; only steps that have events."""


@runtime_checkable
class Reader(Protocol):
    """What a store that answers questions adds; the page and the HTTP API draw from it. Safe from any thread."""

    def topics(self) -> list[TopicSummary]:
        """Return what topics there are, by name."""
        raise NotImplementedError

    def series(
        self,
        topic: str,
        field: str | None,
        aggregate: str,
        start_s: int,
        stop_s: int,
        step_s: int,
        by: str | None = None,
    ) -> list[Series]:
        """Aggregate a numeric field over steps of time.

        Args:
            topic: which events; empty for those of all topics.
            field: a dotted path into `data`: ``system.cpu.utilization``; None only with ``count``.
            aggregate: ``count``, ``sum``, ``avg``, ``min``, ``max``, ``p50``, ``p95``, ``p99``.
            start_s: from, in seconds since 1970, a multiple of `step_s`.
            stop_s: to, not included.
            step_s: the width of a step.
            by: a dotted path whose values split the events into lines (the 50 with the most events), ``topic`` and
                ``source.*`` among them; None for one line.

        Raises:
            ValueError: an argument is not of these.
        """
        raise NotImplementedError

    def recent(self, topics: Sequence[str], text: str, before_ms: int | None, limit: int) -> list[StoredEvent]:
        """Return the newest events, newest first.

        Of topics (a trailing dot means the subtree), before `before_ms`, which contain `text`.
        """
        raise NotImplementedError

    def sql(self, query: str, *, max_rows: int, timeout_s: float, cancelled: Any = None) -> SqlResult:
        """Answer a read-only query.

        Args:
            query: one SELECT-like statement.
            max_rows: stop after so many.
            timeout_s: give up after so long.
            cancelled: a `threading.Event` that ends the query when it is set.

        Raises:
            EventstormError: the query is wrong, not read-only, took too long, or was cancelled.
        """
        raise NotImplementedError


def redacted(url: str) -> str:
    """Return a store's URL without its secrets, for logs, events and pages."""
    # To the last @: a password with an unescaped / or @ is wrong, and still a password.
    url = re.sub(r"(//[^/@:?]*):.*@", r"\1:***@", url, flags=re.DOTALL)
    return re.sub(r"([?&](?:\w*password|authmechanismproperties)=)[^&]*", r"\1***", url, flags=re.IGNORECASE)


def open_store(url: str, settings: SinkSettings) -> Store:
    """Open the store of a URL such as ``duckdb:events.duckdb`` or ``jsonl:-``.

    Raises:
        SettingError: no installed distribution has that kind of store.
        StartError: it cannot be opened.
    """
    scheme, colon, location = url.partition(":")
    found = {entry.name: entry for entry in entry_points(group="eventstorm.stores")}
    if scheme not in found:
        guess = nearest(scheme, list(found))
        raise SettingError(f"store: {redacted(url)!r}: no store {scheme!r}{guess}; write KIND:PLACE")
    if not colon:
        raise SettingError(f"store: {redacted(url)!r} has no place; write it as {scheme}:PLACE")
    try:
        cls = found[scheme].load()
    except ImportError as error:
        extra = scheme.partition("+")[0]
        raise SettingError(
            f"store: {redacted(url)!r}: {error}; install it with: pip install 'eventstorm-sinks[{extra}]'"
        ) from None
    store: Store = cls(location, settings)
    return store
