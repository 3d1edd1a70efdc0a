"""What the ledger and the stores' books say, as the page, ``/api/ledger`` and ``/metrics`` show it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple, Protocol

from eventstorm_sinks.batch import Source
from eventstorm_sinks.receive import Listener
from eventstorm_sinks.snapshot import LedgerRow, SinkSnapshot
from eventstorm_sinks.stores import Readable, Reader

__all__ = ["Loss", "ServedSink", "first_reader", "ledger_document", "losses"]


class ServedSink(Protocol):
    """What the page needs: of an `eventstorm_sinks.sink.Sink`, or of an `eventstorm_sinks.overview.Overview`."""

    @property
    def readables(self) -> Sequence[Readable]:
        """The stores; the first that answers questions is asked them."""
        ...

    def add_listener(self, listener: Listener) -> None:
        """Have `listener` called on the receiving thread for each message."""

    def snapshot(self) -> SinkSnapshot:
        """Return the ledger and the stores as they are now."""
        ...

    def problems(self) -> list[str]:
        """Return why something is not in order; empty when all is well."""
        ...


class Loss(NamedTuple):
    """Events of one topic and source that were lost for one reason."""

    topic: str
    source: str
    reason: str
    """``source``: dropped where they were emitted; ``way``: lost in between; ``overflow``, ``refused``: at `store`."""
    store: str
    events: int


def losses(rows: Sequence[LedgerRow]) -> list[Loss]:
    """Return every loss, the greatest first."""
    return sorted(
        (loss for row in rows for loss in _losses(row)), key=lambda each: (-each.events, each.topic, each.reason)
    )


def _losses(row: LedgerRow) -> Iterator[Loss]:
    source = source_name(row.source)
    # A store's books reach further back than this process does, and both count the same gaps.
    lost_source = max([row.lost_source, *(each.lost_source for each in row.stores)])
    lost_way = max([row.lost_way, *(each.lost_way for each in row.stores)])
    if lost_source:
        yield Loss(row.topic, source, "source", "", lost_source)
    if lost_way:
        yield Loss(row.topic, source, "way", "", lost_way)
    for each in row.stores:
        if each.overflowed:
            yield Loss(row.topic, source, "overflow", each.store, each.overflowed)
        if each.refused:
            yield Loss(row.topic, source, "refused", each.store, each.refused)


def _by_reason(row: LedgerRow) -> dict[str, int]:
    counted: Counter[str] = Counter()
    for loss in _losses(row):
        counted[loss.reason] += loss.events
    return dict(counted)


def source_name(source: Source) -> str:
    """Return a source for people: ``service@host:pid``; of a sum of several sources, ``(other)``."""
    return f"{source.service}@{source.host}:{source.pid}" if source.host or source.service else "(other)"


def ledger_document(snapshot: SinkSnapshot) -> dict[str, Any]:
    """Return the ledger as ``/api/ledger`` gives it."""
    return {
        "at_s": snapshot.at_s,
        "streams": [
            {
                "topic": row.topic,
                "source": {"id": row.source.id.hex(), **{k: v for k, v in row.source._asdict().items() if k != "id"}},
                "tid": row.tid,
                "received": row.received,
                "duplicates": row.duplicates,
                "lost_source": row.lost_source,
                "lost_way": row.lost_way,
                "size_bytes": row.size_bytes,
                "last_seen_s": row.last_seen_s,
                "closed": row.closed,
                "stores": row.stores,
                "lost": _by_reason(row),
            }
            for row in snapshot.rows
        ],
        "losses": [each._asdict() for each in losses(snapshot.rows)],
        "stores": snapshot.stores,
        "malformed": snapshot.malformed,
    }


def first_reader(sink: ServedSink) -> tuple[Readable, Reader] | None:
    """Return the first store that answers questions, as what it is and as what it adds; None if no store does."""
    return next(((store, store) for store in sink.readables if isinstance(store, Reader)), None)
