"""The documents that every store has to give back: each BSON type, its extremes, and what looks like something else."""

from __future__ import annotations

import math
import re
import uuid
from datetime import datetime, timezone
from typing import Any

import bson
from bson.codec_options import CodecOptions, DatetimeConversion

__all__ = ["DOCUMENTS"]


def _nested(depth: int) -> dict[str, Any]:
    document: dict[str, Any] = {"leaf": 1}
    for level in range(depth - 1):
        document = {"in": document} if level % 2 else {"in": [document]}
    return document


def _raw(*elements: bytes) -> bytes:
    body = b"".join(elements) + b"\0"
    return (len(body) + 4).to_bytes(4, "little") + body


_KINDS: dict[str, Any] = {
    "empty": {},
    "plain": {"text": "a", "number": 1, "float": 1.5, "yes": True, "no": False, "nothing": None},
    "arrays": {"empty": [], "mixed": [1, "a", None, 2.5, [], {}, [[1], {"a": [2]}]]},
    "documents": {"empty": {}, "in": {"in": {"in": {"value": [{"a": 1}, {"a": "b"}]}}}},
    "int32": {"least": -(2**31), "most": 2**31 - 1, "zero": 0},
    "int64": {"least": -(2**63), "most": 2**63 - 1, "odd": 2**53 + 1, "just": 2**31},
    "small int64": {"five": bson.Int64(5), "zero": bson.Int64(0), "minus": bson.Int64(-1)},
    "doubles": {"tenth": 0.1, "whole": 1.0, "large": 1e300, "small": 5e-324, "minus zero": -0.0, "2^53": 2.0**53},
    "not finite": {"nan": math.nan, "inf": math.inf, "minus inf": -math.inf, "in": [math.nan, {"x": math.inf}]},
    "decimal128": {
        name: bson.Decimal128(name)
        for name in ("0", "1.50", "-1E+6000", "9.999999999999999999999999999999999", "NaN", "-Infinity")
    },
    "object id": {"id": bson.ObjectId("65f1a2b3c4d5e6f708192a3b")},
    "dates": {
        "now": bson.DatetimeMS(1_767_225_600_123),
        "epoch": bson.DatetimeMS(0),
        "before 1970": bson.DatetimeMS(-86_400_001),
        "before year 1": bson.DatetimeMS(-(10**15)),
        "after year 9999": bson.DatetimeMS(10**15),
        "least": bson.DatetimeMS(-(2**63)),
        "most": bson.DatetimeMS(2**63 - 1),
    },
    "aware date": {"at": datetime(2026, 1, 1, tzinfo=timezone.utc)},
    "binary": {
        "bytes": b"\x00\xff",
        "empty": b"",
        **{f"subtype {subtype}": bson.Binary(b"0123456789abcdef", subtype) for subtype in (1, 2, 3, 4, 5, 8, 128)},
        "uuid": bson.Binary.from_uuid(uuid.UUID(int=7)),
    },
    "binary that should be a UUID": {"short": bson.Binary(b"short", 4)},
    "regular expressions": {"a": bson.Regex("^a.*b$", "imsx"), "b": bson.Regex(""), "c": bson.Regex('"/\\', re.I)},
    "code": {"plain": bson.Code("function () {}"), "scope": bson.Code("x", {"x": bson.Int64(1), "y": {"z": 2.0}})},
    "timestamp": {"least": bson.Timestamp(0, 0), "most": bson.Timestamp(2**32 - 1, 2**32 - 1)},
    "min and max key": {"min": bson.MinKey(), "max": bson.MaxKey()},
    "database reference": {"a": bson.DBRef("c", 1, "d"), "b": {"$id": 1, "$ref": "c"}, "c": {"$ref": 5}},
    "symbol": _raw(b"\x0esymbol\0\x02\0\0\0a\0"),
    "undefined": _raw(b"\x06undefined\0"),
    "names": {
        "": 1,
        ".": 2,
        "a.b": 3,
        "$": 4,
        "$a": 5,
        "a b": 6,
        "ä": 7,
        "\U0001f980": 8,
        '"': 9,
        "\\": 10,
        "'": 11,
    },
    "names that look like Extended JSON": {
        "a": {"$oid": "65f1a2b3c4d5e6f708192a3b"},
        "b": {"$oid": 5},
        "c": {"$numberLong": "12"},
        "d": {"$date": "never"},
        "e": {"$date": 1},
        "f": {"$binary": {"base64": "AA==", "subType": "00"}},
        "g": {"$undefined": True},
        "h": {"$numberDouble": "NaN"},
        "i": {"$regularExpression": {"pattern": "a", "options": ""}, "more": 1},
        "j": [{"$minKey": 1}],
    },
    "a document that looks like Extended JSON": {"$oid": "65f1a2b3c4d5e6f708192a3b"},
    "names of the store's own": {"_id": 1, "ts": 2, "topic": 3, "source": {}, "data": 4, "bson": "AA=="},
    "names in an order": {"z": 1, "a": 2, "m": 3, "10": 4, "9": 5},
    "a name twice": _raw(b"\x10a\0\x01\0\0\0", b"\x10a\0\x02\0\0\0"),
    "array with odd names": _raw(b"\x04a\0" + _raw(b"\x10x\0\x01\0\0\0", b"\x10x\0\x02\0\0\0")),
    "text": {"nul": "a\0b", "lines": "a\nb\r\n\u2028\u0085", "wide": "ä€\U0001f980", "control": "\x01\x1b\x7f"},
    "text that looks like something": {
        "a": "null",
        "b": "5",
        "c": "2026-01-01",
        "d": "{}",
        "e": "<script>",
        "f": "",
    },
    "deep": _nested(90),
    "a mebibyte": {"text": "x" * 2**20},
    "many fields": {f"field {number}": number for number in range(2000)},
}


# Milliseconds: dates may be any that BSON has, and not those of Python alone.
_OPTIONS: CodecOptions[dict[str, Any]] = CodecOptions(datetime_conversion=DatetimeConversion.DATETIME_MS)


def _is_read(document: bytes) -> bool:
    try:
        bson.decode(document, _OPTIONS)
    except bson.InvalidBSON:
        return False
    return True


# What this release of bson cannot decode, every store may refuse: older ones, the last for Python 3.10 among them, take
# no UUID of another length.
DOCUMENTS: dict[str, bytes] = {
    name: document
    for name, each in _KINDS.items()
    if _is_read(document := each if isinstance(each, bytes) else bson.encode(each))
}
"""BSON documents that every store has to give back."""
