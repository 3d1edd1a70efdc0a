"""What both encoders of documents as Extended JSON need: binary values, and the numbers that JSON lacks."""

from __future__ import annotations

import math
from typing import Any

from bson.codec_options import TypeDecoder, TypeRegistry

__all__ = ["BLOBS", "INT32", "Blob", "spell_out"]

INT32 = range(-(2**31), 2**31)
_NOT_FINITE = {math.inf: "Infinity", -math.inf: "-Infinity"}


class Blob:
    """A binary value of subtype 0, which msgspec would take for text in base 64 if it were `bytes`."""

    __slots__ = ("value",)

    def __init__(self, value: bytes) -> None:
        self.value = value


class _Blobs(TypeDecoder):
    @property
    def bson_type(self) -> type[bytes]:
        return bytes

    def transform_bson(self, value: bytes) -> Blob:
        return Blob(value)


BLOBS = TypeRegistry([_Blobs()])
"""Decodes such values as `Blob`."""


def spell_out(value: Any) -> Any:
    """Write the numbers that JSON lacks as Extended JSON does."""
    if isinstance(value, dict):
        return {key: spell_out(each) for key, each in value.items()}
    if isinstance(value, list):
        return [spell_out(each) for each in value]
    if isinstance(value, float) and not math.isfinite(value):
        return {"$numberDouble": _NOT_FINITE.get(value, "NaN")}
    return value
