"""The sink's own events, ``eventstorm.loss`` and ``eventstorm.stats``, as messages like any other. No I/O."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import bson

from eventstorm.wire import Header, Message, encode_event
from eventstorm_sinks.batch import Source
from eventstorm_sinks.share import WHOLE, Share

__all__ = ["LOSS_TOPIC", "MAX_LOSSES_A_SECOND", "STATS_TOPIC", "Loss", "LossLog", "OwnSource"]

LOSS_TOPIC, STATS_TOPIC = "eventstorm.loss", "eventstorm.stats"
_TIDS = {LOSS_TOPIC: 0, STATS_TOPIC: 1}

# A hostile peer can make any number of streams lose something: so much is told in one second, and remembered at all.
# The ledger has the rest.
MAX_LOSSES_A_SECOND = 200
MAX_LOSSES_NOTED = 10_000


class Loss(NamedTuple):
    """Where and why a stream loses events."""

    topic: str
    source: Source
    where: str
    """``source``, ``way`` or ``store``."""
    reason: str
    """``dropped`` by the source, ``gap`` in the numbers, ``overflow`` in front of a store, ``refused`` by it."""
    store: str = ""

    def document(self, count: int) -> dict[str, Any]:
        """Return the event that tells of `count` more lost events."""
        source = self.source
        document: dict[str, Any] = {
            "topic": self.topic,
            "source": {
                "id": source.id.hex(),
                "host": source.host,
                "service": source.service,
                "pid": source.pid,
            },
            "where": self.where,
            "reason": self.reason,
            "count": count,
        }
        if self.store:
            document["store"] = self.store
        return document


class LossLog:
    """Collects losses between two reports. For one thread."""

    def __init__(self) -> None:
        self._counts: dict[Loss, int] = {}

    def add(self, loss: Loss, count: int) -> None:
        """Note `count` more lost events."""
        if loss in self._counts or len(self._counts) < MAX_LOSSES_NOTED:
            self._counts[loss] = self._counts.get(loss, 0) + count

    def take(self, most: int = MAX_LOSSES_NOTED) -> list[tuple[Loss, int]]:
        """Return losses noted and not taken yet, each with how many events it is about."""
        taken = list(self._counts.items())[:most]
        for loss, _ in taken:
            del self._counts[loss]
        return taken


class OwnSource:
    """Numbers and wraps the sink's own events, which belong to its own share. For one thread."""

    def __init__(self, share: Share = WHOLE) -> None:
        self.source = Source(share.new_source_id(), socket.gethostname(), "eventstorm-sink", os.getpid())
        self._next = dict.fromkeys(_TIDS, 0)

    def message(self, topic: str, documents: Sequence[dict[str, Any]], now_ms: int) -> Message:
        """Return a message of so many events."""
        payload = b"".join(encode_event(now_ms, bson.encode(document)) for document in documents)
        header = self._header(topic, len(documents), now_ms)
        self._next[topic] += len(documents)
        return Message(topic, header, payload)

    def goodbyes(self, now_ms: int) -> Iterator[Message]:
        """Yield the last message of each topic that was used."""
        for topic, seq in self._next.items():
            if seq:
                yield Message(topic, self._header(topic, 0, now_ms, bye=True), b"")

    def _header(self, topic: str, n: int, now_ms: int, *, bye: bool = False) -> Header:
        source = self.source
        return Header(
            source_id=source.id,
            tid=_TIDS[topic],
            seq=self._next[topic],
            n=n,
            drop=0,
            at_ms=now_ms,
            host=source.host,
            service=source.service,
            pid=source.pid,
            bye=bye,
        )
