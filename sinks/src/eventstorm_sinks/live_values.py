"""Take values out of documents that anybody may have written: what is not as expected is left out, never an error."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import bson
from bson import json_util
from bson.codec_options import CodecOptions, DatetimeConversion

__all__ = ["clip", "decode", "dig", "json_text", "number"]

# Milliseconds: datetime cannot hold all that BSON can. "replace": a text that is not UTF-8 is still worth showing.
_options: CodecOptions[dict[str, Any]] = CodecOptions(
    datetime_conversion=DatetimeConversion.DATETIME_MS, unicode_decode_error_handler="replace"
)
MAX_TEXT = 200


def decode(data: bytes) -> dict[str, Any] | None:
    """Return the document, or None if the bytes are none."""
    try:
        return bson.decode(data, _options)
    except Exception:  # bson raises several kinds for hostile bytes, RecursionError among them
        return None


def json_text(data: bytes) -> str | None:
    """Return the document as one line of relaxed Extended JSON, or None if the bytes are no document."""
    document = decode(data)
    if document is None:
        return None
    try:
        return json_util.dumps(document, json_options=json_util.RELAXED_JSON_OPTIONS, ensure_ascii=False)
    except Exception:  # nested deeper than Python's stack, or a type that JSON cannot hold
        return None


def dig(document: Mapping[str, Any], path: str) -> Any:
    """Return the value at a dotted path, or None."""
    value: Any = document
    for key in path.split("."):
        if not isinstance(value, Mapping):
            return None
        value = value.get(key)
    return value


def number(value: Any) -> float | None:
    """Return a finite number as a float, or None for anything else, booleans included."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    plain = float(value)  # BSON's integers have 64 bits: this cannot overflow
    return plain if math.isfinite(plain) else None


def clip(value: Any) -> float | str | list[float] | None:
    """Return a value small enough to keep and send: a number, a short text, a short list of numbers, or None."""
    if isinstance(value, str):
        return value[:MAX_TEXT]
    if isinstance(value, list):
        return [plain for each in value[:256] if (plain := number(each)) is not None]
    return number(value)
