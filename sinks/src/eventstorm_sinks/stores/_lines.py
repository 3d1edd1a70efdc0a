"""Events as lines of Extended JSON v2 (https://www.mongodb.com/docs/manual/reference/mongodb-extended-json/).

A line is ``{"_id": 48 hex digits, "ts": {"$date": …}, "topic": …, "source": {…}, "data": …}``. Plain values look plain:
numbers, texts, dates are written in the relaxed format. A 64-bit integer small enough to come back as a 32-bit one is
the exception: it is written as ``{"$numberLong": "5"}``. Whatever does not come back to the byte in this way (names
that look like Extended JSON, names that occur twice, NaN, …) is followed by ``"bson"``: the document in base 64.
"""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Mapping
from datetime import datetime, timedelta, timezone
from typing import Any

import bson
import msgspec
from bson import json_util
from bson.binary import Binary, UuidRepresentation
from bson.codec_options import CodecOptions, DatetimeConversion, TypeDecoder, TypeRegistry
from bson.int64 import Int64

from eventstorm.wire import Event
from eventstorm_sinks.batch import Batch, Source, StoredEvent

__all__ = ["Head", "decode_head", "decode_line", "encode_line"]

_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
_MAX_ISO_MS = 253_402_300_799_999  # 9999-12-31T23:59:59.999Z, where the relaxed format ends
_int32 = range(-(2**31), 2**31)
_NOT_FINITE = {math.inf: "Infinity", -math.inf: "-Infinity"}


class _Bytes(TypeDecoder):
    """Keeps binary values of subtype 0 from being `bytes`, which msgspec would take for text in base 64."""

    @property
    def bson_type(self) -> Any:
        return bytes

    def transform_bson(self, value: bytes) -> Any:
        return _Blob(value)


class _Blob:
    __slots__ = ("value",)

    def __init__(self, value: bytes) -> None:
        self.value = value


_options: CodecOptions[dict[str, Any]] = CodecOptions(
    datetime_conversion=DatetimeConversion.DATETIME_MS, type_registry=TypeRegistry([_Bytes()])
)
_json_options = json_util.JSONOptions(
    json_mode=json_util.JSONMode.RELAXED,
    datetime_conversion=DatetimeConversion.DATETIME_MS,
    uuid_representation=UuidRepresentation.UNSPECIFIED,
)


class Head(msgspec.Struct):
    """What lines are ordered and chosen by."""

    id: str = msgspec.field(name="_id")
    ts: dict[str, Any]
    topic: str

    @property
    def ts_ms(self) -> int:
        """The time in milliseconds since 1970."""
        return _milliseconds(self.ts)


class _Source(msgspec.Struct):
    id: str
    host: str
    service: str
    pid: int


class _Line(Head, omit_defaults=True, kw_only=True):
    source: _Source
    data: msgspec.Raw
    bson: str = ""


def _convert(value: Any) -> Any:
    """Write what JSON has no type for."""
    if isinstance(value, Int64):
        return {"$numberLong": str(int(value))} if int(value) in _int32 else int(value)
    if isinstance(value, bson.DatetimeMS):
        return _date(int(value))
    if isinstance(value, _Blob):
        return json_util.default(Binary(value.value, 0), _json_options)
    return json_util.default(value, _json_options)


_to_json = msgspec.json.Encoder(enc_hook=_convert).encode
_head_of = msgspec.json.Decoder(Head).decode
_line_of = msgspec.json.Decoder(_Line).decode


def encode_line(batch: Batch, event: Event) -> bytes:
    """Return the line of an event, with its newline.

    Raises:
        ValueError: its document is not BSON.
    """
    try:
        decoded = bson.decode(event.data, _options)
        data = _to_json(decoded)
    except Exception as error:  # bson raises several kinds for hostile bytes, RecursionError among them
        raise ValueError(f"not a BSON document: {str(error)[:200]}") from None
    kept = ""
    if not _comes_back(data, event.data):
        kept = base64.b64encode(event.data).decode()
        if b"null" in data:
            data = _to_json(_spell_out(decoded))
    source = batch.source
    line = _Line(
        id=batch.id_of(event).hex(),
        ts=_date(event.ts_ms),
        topic=batch.topic,
        source=_Source(source.id.hex(), source.host, source.service, source.pid),
        data=msgspec.Raw(data),
        bson=kept,
    )
    return _to_json(line) + b"\n"


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
    data = base64.b64decode(each.bson) if each.bson else _from_json(bytes(each.data))
    return StoredEvent(bytes.fromhex(each.id), each.ts_ms, each.topic, source, data)


def _from_json(data: bytes) -> bytes:
    return bson.encode(json.loads(data, object_hook=_revive))


def _revive(document: dict[str, Any]) -> Any:
    name = next(iter(document), "")
    if not name.startswith("$"):
        return document
    if name == "$date" and len(document) == 1:  # the two most frequent ones, faster
        return bson.DatetimeMS(_milliseconds(document))
    if name == "$numberLong" and len(document) == 1:
        return Int64(document[name])
    return json_util.object_hook(document, _json_options)


def _comes_back(data: bytes, document: bytes) -> bool:
    try:
        return _from_json(data) == document
    except Exception:  # names that look like Extended JSON, with values that do not
        return False


def _date(ms: int) -> dict[str, Any]:
    if not 0 <= ms <= _MAX_ISO_MS:
        return {"$date": {"$numberLong": str(ms)}}
    moment = _EPOCH + timedelta(milliseconds=ms)
    return {"$date": moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")}


def _milliseconds(date: Mapping[str, Any]) -> int:
    value = date["$date"]
    if isinstance(value, dict):
        return int(value["$numberLong"])
    return (datetime.fromisoformat(value[:-1] + "+00:00") - _EPOCH) // timedelta(milliseconds=1)


def _spell_out(value: Any) -> Any:
    """Write the numbers that JSON lacks, which msgspec writes as null."""
    if isinstance(value, dict):
        return {key: _spell_out(each) for key, each in value.items()}
    if isinstance(value, list):
        return [_spell_out(each) for each in value]
    if isinstance(value, float) and not math.isfinite(value):
        return {"$numberDouble": _NOT_FINITE.get(value, "NaN")}
    return value
