"""Stores: where events end up. A built-in and a stranger's plug-in come in through the same door.

A store is a class registered under the entry-point group ``eventstorm.stores``; the entry's name is the scheme of its
URLs: ``duckdb:events.duckdb``. `eventstorm_sinks.stores.conformance` tests whether one keeps its promises.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import entry_points
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from eventstorm.errors import EventstormError, SettingError
from eventstorm.settings import nearest
from eventstorm_sinks.batch import Batch, Book, StoredEvent, StreamKey
from eventstorm_sinks.settings import SinkSettings

if TYPE_CHECKING:
    from eventstorm_sinks.stores.where import Condition

__all__ = [
    "Archive",
    "Readable",
    "Reader",
    "Series",
    "SqlResult",
    "Store",
    "StoreUnavailable",
    "TopicSummary",
    "check_sharing",
    "open_archive",
    "open_beside_sinks",
    "open_store",
    "open_to_read",
    "redacted",
]


class StoreUnavailable(EventstormError):
    """The store cannot write now but may later: its disk is full, its server is away. Nothing was written."""


class Readable(Protocol):
    """What events can be read from, and copied from."""

    def books(self) -> list[Book]:
        """Return the books last written.

        Raises:
            StoreUnavailable: the store is away.
        """
        raise NotImplementedError

    def read(
        self,
        topics: Sequence[str] = (),
        start_ms: int | None = None,
        stop_ms: int | None = None,
        where: Sequence[Condition] = (),
    ) -> Iterator[StoredEvent]:
        """Yield events in the order of time, then identity, in memory that has a bound.

        Of some topics or all, from `start_ms` to before `stop_ms`, and of these the ones of which all of `where` holds:
        see `eventstorm_sinks.stores.where.chosen`, which every store can use. Closing the iterator ends the reading.

        Raises:
            StoreUnavailable: the store is away; at any event.
        """
        raise NotImplementedError

    def close(self) -> None:
        """Flush and close. A second call does nothing."""


class Archive(Readable, Protocol):
    """What events can be copied into. Constructing one opens it, as it does a `Store`; one thread inserts."""

    def __init__(self, location: str, settings: SinkSettings) -> None: ...

    def insert(self, batches: Sequence[Batch], books: Sequence[Book]) -> None:
        """Write events that are not there yet, durably, and replace some books.

        Unlike in `Store.write`, the numbers may be any, below those that were stored before too: the caller has looked
        which are there. What fails may have been written in part if the same call again then writes the rest, and
        nothing twice.

        Raises:
            StoreUnavailable: try the same again later.
            Exception: something in the batches cannot be stored.
        """


class Store(Readable, Protocol):
    """Where a sink's events are written and read back. Constructing one opens it, and makes what it needs.

    Its constructor takes the part of the URL after the scheme's colon and the sink's settings, and raises
    `eventstorm.errors.StartError`. One thread writes, any thread may read. A store whose server is away when it is
    constructed may leave the opening to the first call that needs it.

    `books` is called before anything is written, by the writing thread or before there is one, to go on from after a
    restart.

    A store may have the class methods ``open_to_read`` and ``open_to_insert`` too, with the same arguments: to be read
    and copied into, making nothing that is not there and disturbing no sink that writes, where that is possible. What
    these give may have more to tell to ``eventstorm check``: see `eventstorm_sinks.stores.examine`.
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

    def maintain(self) -> None:
        """Do what comes up now and then, retention above all. Called by the writer about once a minute."""


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
    """Open the store of a URL such as ``duckdb:events.duckdb`` or ``jsonl:-``, for a sink.

    Raises:
        SettingError: no installed distribution has that kind of store, or a sink cannot write it, or not share it.
        StartError: it cannot be opened.
    """
    cls, location = _find(url)
    if not hasattr(cls, "write"):
        raise SettingError(
            f"store: {redacted(url)!r} is for copies: store events into DuckDB, say, and then use `eventstorm copy`"
        )
    if settings.share != "1/1":
        check_sharing(url)
    store: Store = cls(location, settings)
    return store


def open_archive(url: str, settings: SinkSettings) -> Archive:
    """Open a store to copy events into.

    Raises:
        SettingError: no installed distribution has that kind of store, or nothing can be copied into it.
        StartError: it cannot be opened.
    """
    cls, location = _find(url)
    if not hasattr(cls, "insert"):
        raise SettingError(f"store: {redacted(url)!r}: this kind of store can be copied from, but not into")
    archive: Archive = getattr(cls, "open_to_insert", cls)(location, settings)
    return archive


def open_to_read(url: str, settings: SinkSettings) -> Readable:
    """Open a store that is there, to copy events from.

    Raises:
        SettingError: no installed distribution has that kind of store.
        StartError: it is not there, or cannot be opened.
    """
    cls, location = _find(url)
    readable: Readable = getattr(cls, "open_to_read", cls)(location, settings)
    return readable


def open_beside_sinks(url: str, settings: SinkSettings) -> Readable:
    """Open a store that other processes write, to ask it questions; it is a `Reader` too.

    Raises:
        SettingError: no installed distribution has that kind of store, it cannot be read meanwhile, or answers nothing.
        StartError: it cannot be opened.
    """
    cls, location = _find(url)
    say = getattr(cls, "why_not_shared", None)
    instead = "let the sink that writes it serve the page: eventstorm sink STORE --http 127.0.0.1:5580"
    if not say or say(location) or not hasattr(cls, "open_to_read"):
        raise SettingError(f"store: {redacted(url)!r}: only the process that writes it can read it; {instead}")
    readable: Readable = cls.open_to_read(location, settings)
    if not isinstance(readable, Reader):
        readable.close()
        raise SettingError(
            f"store: {redacted(url)!r} answers no questions, as a page has them: have the sinks store into "
            "mongodb://… or cassandra://… too"
        )
    return readable


def check_sharing(url: str) -> None:
    """Check that several sinks, each with a share of the events, may write to the same store.

    A store's class says so by a method: ``why_not_shared(location)`` gives an empty text if its books say exactly what
    became of a stream when the number of shares changes, and the reason against it if they do not.

    Raises:
        SettingError: they may not; the message tells what to do instead.
    """
    cls, location = _find(url)
    say = getattr(cls, "why_not_shared", None)
    reason = say(location) if say else "it does not say that it can be"
    if reason:
        raise SettingError(f"store: {redacted(url)!r} cannot be shared by several sinks: {reason}")


def _find(url: str) -> tuple[Any, str]:
    """Return the class of a URL's store, and the place in it."""
    scheme, colon, location = url.partition(":")
    found = {entry.name: entry for entry in entry_points(group="eventstorm.stores")}
    if scheme not in found:
        guess = nearest(scheme, list(found))
        raise SettingError(f"store: {redacted(url)!r}: no store {scheme!r}{guess}; write KIND:PLACE")
    if not colon:
        raise SettingError(f"store: {redacted(url)!r} has no place; write it as {scheme}:PLACE")
    try:
        return found[scheme].load(), location
    except ImportError as error:
        extra = scheme.partition("+")[0]
        raise SettingError(
            f"store: {redacted(url)!r}: {error}; install it with: pip install 'eventstorm-sinks[{extra}]'"
        ) from None
