"""Documents as Extended JSON v2 (https://www.mongodb.com/docs/manual/reference/mongodb-extended-json/), and back.

Plain values look plain: numbers, texts, dates are written in the relaxed format. A 64-bit integer small enough to come
back as a 32-bit one is the exception: it is written as ``{"$numberLong": "5"}``. Whether a document comes back to the
byte in this way is told beside it: names that look like Extended JSON, names that occur twice, NaN, … do not.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from datetime import datetime, timedelta, timezone
from typing import Any

import bson
import msgspec
from bson import json_util
from bson.binary import Binary, UuidRepresentation
from bson.codec_options import CodecOptions, DatetimeConversion
from bson.int64 import Int64

from eventstorm_sinks.stores._extended import BLOBS, INT32, Blob, spell_out

__all__ = ["date", "decode_document", "encode_document", "milliseconds", "read_document", "to_json"]

_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
_MAX_ISO_MS = 253_402_300_799_999  # 9999-12-31T23:59:59.999Z, where the relaxed format ends
_PLAIN = {str, int, bool, type(None), bson.DatetimeMS}


_options: CodecOptions[dict[str, Any]] = CodecOptions(
    datetime_conversion=DatetimeConversion.DATETIME_MS, type_registry=BLOBS
)
_json_options = json_util.JSONOptions(
    json_mode=json_util.JSONMode.RELAXED,
    datetime_conversion=DatetimeConversion.DATETIME_MS,
    uuid_representation=UuidRepresentation.UNSPECIFIED,
)


def _convert(value: Any) -> Any:
    """Write what JSON has no type for."""
    if isinstance(value, Int64):
        return {"$numberLong": str(int(value))} if int(value) in INT32 else int(value)
    if isinstance(value, bson.DatetimeMS):
        return date(int(value))
    if isinstance(value, Blob):
        return json_util.default(Binary(value.value, 0), _json_options)
    return json_util.default(value, _json_options)


to_json = msgspec.json.Encoder(enc_hook=_convert).encode
"""Write a value as JSON."""


def encode_document(document: bytes) -> tuple[bytes, bool, dict[str, Any]]:
    """Return a BSON document as JSON, whether that comes back to the byte, and what it holds.

    Raises:
        ValueError: it is not BSON.
    """
    try:
        decoded = bson.decode(document, _options)
        data = to_json(decoded)
    except Exception as error:  # bson raises several kinds for hostile bytes, RecursionError among them
        raise ValueError(f"not a BSON document: {str(error)[:200]}") from None
    if _comes_back(data, document, decoded):
        return data, True, decoded
    return to_json(spell_out(decoded)) if b"null" in data else data, False, decoded


def decode_document(data: str | bytes) -> bytes:
    """Return the BSON document of what `encode_document` returned, if that comes back."""
    return bson.encode(json.loads(data, object_hook=_revive))


def read_document(data: str | bytes | None) -> dict[str, Any] | None:
    """Return what a document as JSON holds, as decoding BSON would, or None if it is none."""
    try:
        found = json.loads(data or "", object_hook=_revive)
    except Exception:  # what anybody may have written
        return None
    return found if isinstance(found, dict) else None


def _revive(document: dict[str, Any]) -> Any:
    name = next(iter(document), "")
    if not name.startswith("$"):
        return document
    if name == "$date" and len(document) == 1:  # the two most frequent ones, faster
        return bson.DatetimeMS(milliseconds(document))
    if name == "$numberLong" and len(document) == 1:
        return Int64(document[name])
    return json_util.object_hook(document, _json_options)


def _comes_back(data: bytes, document: bytes, decoded: dict[str, Any]) -> bool:
    try:
        if _is_plain(decoded):  # most are: then JSON has all that encoding needs, which is seen without reading it
            return bson.encode(decoded) == document
        return decode_document(data) == document
    except Exception:  # names that look like Extended JSON, with values that do not
        return False


def _is_plain(value: Any) -> bool:
    """Tell whether a value that was decoded is the same after JSON."""
    kind = type(value)
    if kind is float:
        return math.isfinite(value)
    if kind is dict:
        return all(name[:1] != "$" and _is_plain(each) for name, each in value.items())
    if kind is list:
        return all(map(_is_plain, value))
    return kind in _PLAIN


def date(ms: int) -> dict[str, Any]:
    """Return a time as Extended JSON."""
    if not 0 <= ms <= _MAX_ISO_MS:
        return {"$date": {"$numberLong": str(ms)}}
    moment = _EPOCH + timedelta(milliseconds=ms)
    return {"$date": moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")}


def milliseconds(date: Mapping[str, Any]) -> int:
    """Return the milliseconds since 1970 that a time as Extended JSON says."""
    value = date["$date"]
    if isinstance(value, dict):
        return int(value["$numberLong"])
    if isinstance(value, Int64):  # the same, revived already
        return int(value)
    return (datetime.fromisoformat(value[:-1] + "+00:00") - _EPOCH) // timedelta(milliseconds=1)
