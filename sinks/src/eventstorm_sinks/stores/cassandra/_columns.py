"""Columns of their own for fields that people ask for: ``status=http.response.status_code:int``."""

from __future__ import annotations

import re
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import bson

from eventstorm.errors import SettingError
from eventstorm.settings import nearest
from eventstorm_sinks.live_values import dig

__all__ = ["Column", "parse_columns"]

FIXED = ("topic", "bucket", "shard", "ts", "id", "host", "service", "pid", "data", "bson")
"""The columns that every table has."""

_NAME = re.compile(r"[a-z][a-z0-9_]{0,39}")
MAX_TEXT_BYTES = 1024
_int32, _int64, _double = struct.Struct(">i").pack, struct.Struct(">q").pack, struct.Struct(">d").pack


def _text(value: Any) -> bytes | None:
    return value.encode() if isinstance(value, str) and len(value) <= MAX_TEXT_BYTES else None


def _boolean(value: Any) -> bytes | None:
    return bytes([value]) if isinstance(value, bool) else None


def _whole(pack: Callable[[int], bytes], bits: int) -> Callable[[Any], bytes | None]:
    least, most = -(2 ** (bits - 1)), 2 ** (bits - 1) - 1

    def encode(value: Any) -> bytes | None:
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
            return None
        return pack(value)

    return encode


def _number(value: Any) -> bytes | None:
    if isinstance(value, bson.Decimal128):
        value = value.to_decimal()
        return _double(float(value)) if value.is_finite() else None
    return _double(float(value)) if isinstance(value, (int, float)) and not isinstance(value, bool) else None


def _time(value: Any) -> bytes | None:
    return _int64(int(value)) if isinstance(value, bson.DatetimeMS) else None


_ENCODERS: dict[str, Callable[[Any], bytes | None]] = {
    "text": _text,
    "boolean": _boolean,
    "int": _whole(_int32, 32),
    "bigint": _whole(_int64, 64),
    "double": _number,
    "timestamp": _time,
}


@dataclass(frozen=True, slots=True)
class Column:
    """A field that has a column of its own. A value that does not fit the column's type is left out of it."""

    name: str
    path: str
    kind: str
    encode: Callable[[Any], bytes | None]

    def of(self, document: Mapping[str, Any]) -> bytes | None:
        """Return the field of a document as Cassandra takes it, or None."""
        return self.encode(dig(document, self.path))


def parse_columns(texts: tuple[str, ...], place: str = "sink.cassandra_columns") -> tuple[Column, ...]:
    """Read the setting.

    Raises:
        SettingError: it is not understood.
    """
    found: dict[str, Column] = {}
    for text in texts:
        name, equals, rest = text.partition("=")
        path, colon, kind = rest.rpartition(":")
        if not (equals and colon and path):
            raise SettingError(f"{place}: {text!r}: write NAME=PATH:TYPE, as status=http.response.status_code:int")
        if not _NAME.fullmatch(name) or name in FIXED or name in found:
            raise SettingError(f"{place}: {name!r} is no name for a column: a-z, 0-9 and _, and none of {FIXED}")
        if kind not in _ENCODERS:
            raise SettingError(f"{place}: {text!r}: no type {kind!r}{nearest(kind, list(_ENCODERS))}")
        found[name] = Column(name, path, kind, _ENCODERS[kind])
    return tuple(found.values())
