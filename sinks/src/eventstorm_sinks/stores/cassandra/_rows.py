"""Events as rows: the values of a prepared insertion, in Cassandra's own bytes, and back."""

from __future__ import annotations

import struct
import time
from collections.abc import Iterator
from typing import Any, NamedTuple

from cassandra.query import UNSET_VALUE, BatchStatement, BatchType, BoundStatement, PreparedStatement

from eventstorm.wire import Events
from eventstorm_sinks.batch import Batch, Source, StoredEvent, StreamKey
from eventstorm_sinks.stores._json import decode_document, encode_document
from eventstorm_sinks.stores.cassandra._columns import Column
from eventstorm_sinks.stores.cassandra._layout import Partition

__all__ = ["MAX_ROW_BYTES", "Insertions", "Part", "decode_row", "removal", "stream_id"]

# What one request holds. Batches are of one partition, and so one mutation, of whose size servers do not warn; larger
# ones gain nothing, and keep others waiting.
_MAX_ROWS, _MAX_BYTES = 250, 64 * 2**10
MAX_ROW_BYTES = 15 * 2**20
"""A server takes half a segment of its commit log, 16 MiB, with what goes around it."""

_int32, _int64 = struct.Struct(">i").pack, struct.Struct(">q").pack


class Part(NamedTuple):
    """Events of one stream that lie in one partition."""

    partition: Partition
    batch: Batch
    events: Events


class Insertions:
    """Turns parts into the requests that insert them.

    Args:
        insert: the prepared statement.
        columns: fields with columns of their own, in the statement's order.
        keep_s: how long an event is kept, from its own time on; None if the statement has no time to live.
    """

    def __init__(self, insert: PreparedStatement, columns: tuple[Column, ...], keep_s: int | None) -> None:
        self._insert, self._columns, self._keep_s = insert, columns, keep_s

    def of(self, parts: list[Part]) -> Iterator[BatchStatement]:
        """Yield the requests; parts of one partition go together.

        Raises:
            ValueError: an event is not BSON, or too large.
        """
        open_ones: dict[Partition, tuple[list[list[Any]], int]] = {}
        for part in parts:
            rows, size = open_ones.pop(part.partition, ([], 0))
            for row, row_bytes in self._rows(part):
                if rows and (size + row_bytes > _MAX_BYTES or len(rows) >= _MAX_ROWS):
                    yield self._request(part.partition, rows)
                    rows, size = [], 0
                rows.append(row)
                size += row_bytes
            open_ones[part.partition] = rows, size
        for partition, (rows, _) in open_ones.items():
            yield self._request(partition, rows)

    def _rows(self, part: Part) -> Iterator[tuple[list[Any], int]]:
        batch, source, now_s = part.batch, part.batch.source, int(time.time())
        front = _key(part.partition)
        origin = [source.host.encode(), source.service.encode(), _int32(source.pid)]
        fixed_bytes = sum(map(len, (*front, *origin))) + 100
        identity = stream_id(batch.key)
        for seq, ts_ms, document in zip(part.events.seqs, part.events.ts_ms, part.events.documents, strict=True):
            data, comes_back, decoded = encode_document(document)
            row = [
                *front,
                _int64(ts_ms),
                identity + seq.to_bytes(8, "big"),
                *origin,
                data,
                UNSET_VALUE if comes_back else document,
            ]
            for column in self._columns:
                value = column.of(decoded)
                row.append(UNSET_VALUE if value is None else value)
            if self._keep_s is not None:
                age_s = now_s - ts_ms // 1000
                row.append(_int32(min(max(self._keep_s - age_s, 1), self._keep_s)))
            size = fixed_bytes + len(data) + (0 if comes_back else len(document))
            if size > MAX_ROW_BYTES:
                raise ValueError(f"an event of {size} bytes as stored; Cassandra takes {MAX_ROW_BYTES}")
            yield row, size

    def _request(self, partition: Partition, rows: list[list[Any]]) -> BatchStatement:
        request = BatchStatement(BatchType.UNLOGGED)
        for row in rows:
            bound = BoundStatement(self._insert)
            bound.values = row
            request.add(bound)
        # What is written twice is there once, so that another node may be asked beside one that is slow.
        request.is_idempotent = True
        request.routing_key = b"".join(struct.pack(">H", len(each)) + each + b"\0" for each in _key(partition))
        request.keyspace = self._insert.keyspace
        return request


def _key(partition: Partition) -> list[bytes]:
    return [partition.topic.encode(), _int64(partition.bucket_ms), _int32(partition.shard)]


def removal(remove: PreparedStatement, partition: Partition, ts_ms: int, identity: bytes) -> BoundStatement:
    """Return the request that removes one event."""
    bound = remove.bind((*partition, ts_ms, identity))
    bound.is_idempotent = True
    return bound


def stream_id(key: StreamKey) -> bytes:
    """Return how the identities of a stream's events begin: 16 bytes."""
    return key.source_id + key.tid.to_bytes(4, "big")


def decode_row(topic: str, row: tuple[Any, ...]) -> StoredEvent | None:
    """Return a stored event, or None if somebody else put something there that is none."""
    identity, ts_ms, host, service, pid, _, data, raw = row
    if len(identity) != 24:
        return None
    try:
        document = bytes(raw) if raw is not None else decode_document(data)
    except Exception:  # whatever somebody wrote there by hand
        return None
    return StoredEvent(identity, ts_ms, topic, Source(identity[:12], host or "", service or "", pid or 0), document)
