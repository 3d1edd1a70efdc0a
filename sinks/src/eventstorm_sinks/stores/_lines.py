"""Events as lines of Extended JSON v2, see `eventstorm_sinks.stores._json`.

A line is ``{"_id": 48 hex digits, "ts": {"$date": …}, "topic": …, "source": {…}, "data": …}``. What does not come back
from JSON to the byte is followed by ``"bson"``: the document in base 64.
"""

from __future__ import annotations

import base64
from typing import Any

import msgspec

from eventstorm.wire import Event
from eventstorm_sinks.batch import Batch, Source, StoredEvent
from eventstorm_sinks.stores._json import date, decode_document, encode_document, milliseconds, to_json

__all__ = ["Head", "decode_head", "decode_line", "encode_line"]


class Head(msgspec.Struct):
    """What lines are ordered and chosen by."""

    id: str = msgspec.field(name="_id")
    ts: dict[str, Any]
    topic: str

    @property
    def ts_ms(self) -> int:
        """The time in milliseconds since 1970."""
        return milliseconds(self.ts)


class _Source(msgspec.Struct):
    id: str
    host: str
    service: str
    pid: int


class _Line(Head, omit_defaults=True, kw_only=True):
    source: _Source
    data: msgspec.Raw
    bson: str = ""


_head_of = msgspec.json.Decoder(Head).decode
_line_of = msgspec.json.Decoder(_Line).decode


def encode_line(batch: Batch, event: Event) -> bytes:
    """Return the line of an event, with its newline.

    Raises:
        ValueError: its document is not BSON.
    """
    data, comes_back, _ = encode_document(event.data)
    source = batch.source
    line = _Line(
        id=batch.id_of(event).hex(),
        ts=date(event.ts_ms),
        topic=batch.topic,
        source=_Source(source.id.hex(), source.host, source.service, source.pid),
        data=msgspec.Raw(data),
        bson="" if comes_back else base64.b64encode(event.data).decode(),
    )
    return to_json(line) + b"\n"


def decode_head(line: bytes) -> Head:
    """Return the beginning of a line.

    Raises:
        msgspec.DecodeError: it is none.
    """
    return _head_of(line)


def decode_line(line: bytes) -> StoredEvent:
    """Return the event of a line."""
    each = _line_of(line)
    source = Source(bytes.fromhex(each.source.id), each.source.host, each.source.service, each.source.pid)
    data = base64.b64decode(each.bson, validate=True) if each.bson else decode_document(bytes(each.data))
    return StoredEvent(bytes.fromhex(each.id), each.ts_ms, each.topic, source, data)
