"""Stores to copy from and into, and what is in them."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import bson

from eventstorm_sinks.batch import Batch, Book, Source, StoredEvent
from eventstorm_sinks.copying import Copied, Selection, copy_events
from eventstorm_sinks.settings import SinkSettings
from eventstorm_sinks.stores import open_archive, open_to_read
from eventstorm_sinks.stores.conformance import _comparable, batch_of, events_of

KINDS = ("duckdb", "jsonl", "parquet")


OTHER = Source(b"another host", "b", "shop", 2)


DEADLINE_S = 60.0


EVENTSTORM = [sys.executable, "-c", "import sys; from eventstorm.cli import main; sys.exit(main())"]


def place(kind: str, folder: Path, name: str = "events") -> str:
    """Return the URL of a store that is not there yet."""
    return f"{kind}:{folder / f'{name}.{kind}'}"


def fill(url: str, batches: Sequence[Batch], books: Sequence[Book] = ()) -> None:
    """Put events into a store, whichever it is."""
    archive = open_archive(url, SinkSettings())
    archive.insert(batches, books)
    archive.close()


def copy(source_url: str, target_url: str, selection: Selection | None = None) -> Copied:
    """Copy from one store to another."""
    done = Copied()
    source, target = open_to_read(source_url, SinkSettings()), open_archive(target_url, SinkSettings())
    try:
        copy_events(source, target, selection or Selection(), done, patience_s=0)
    finally:
        target.close()
        source.close()
    return done


def stored(url: str) -> list[StoredEvent]:
    """Return what a store has, in its order."""
    readable = open_to_read(url, SinkSettings())
    found = list(readable.read())
    readable.close()
    return found


def books(url: str) -> dict[Any, Book]:
    """Return the books of a store by their streams."""
    readable = open_to_read(url, SinkSettings())
    found = {book.key: book for book in readable.books()}
    readable.close()
    return found


def comparable(events: Sequence[StoredEvent]) -> list[Any]:
    """Return events as something that is equal only if they are."""
    return [(*event[:4], _comparable(event.data)) for event in events]


def numbered(count: int, ts_ms: int = 1_767_225_600_000, topic: str = "shop.order", tid: int = 0) -> Batch:
    """Return a batch of so many events."""
    return batch_of(events_of([bson.encode({"number": each}) for each in range(count)], ts_ms=ts_ms), topic, tid=tid)
