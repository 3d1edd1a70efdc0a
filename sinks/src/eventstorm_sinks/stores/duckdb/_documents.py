"""The users' documents: BSON on the wire, `VARIANT` in the table.

A document of JSON's types alone ("plain") goes into `VARIANT` as it is, and the BSON is rebuilt from there. Any other
goes in twice: as Extended JSON v2 (relaxed) for queries, and as the bytes that came, for reading. Whether a document is
plain is not guessed from its types: it is, if all of it comes back.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import bson
import msgspec
from bson import json_util
from bson.codec_options import CodecOptions, DatetimeConversion, TypeDecoder, TypeRegistry
from bson.int64 import Int64

__all__ = ["decode_document", "encode_documents"]


class _Bytes(TypeDecoder):
    """Keeps binary values of subtype 0 from being `bytes`, which msgspec would take for text in base 64."""

    @property
    def bson_type(self) -> type[bytes]:
        """The type that `transform_bson` is called for."""
        return bytes

    def transform_bson(self, value: bytes) -> _Blob:
        """Wrap a value."""
        return _Blob(value)


class _Blob:
    __slots__ = ("value",)

    def __init__(self, value: bytes) -> None:
        self.value = value


_options: CodecOptions[dict[str, Any]] = CodecOptions(
    datetime_conversion=DatetimeConversion.DATETIME_MS, type_registry=TypeRegistry([_Bytes()])
)
_NOT_FINITE = {math.inf: "Infinity", -math.inf: "-Infinity"}
# Where the elements lie in {"": [element, …]}: after two lengths, a type and an empty name, before two NULs.
_ARRAY_START, _ARRAY_STOP = 10, -2
_int32 = range(-(2**31), 2**31)
_from_json = msgspec.json.Decoder().decode


class _Encoder:
    """Encodes to Extended JSON, and notes whether there was anything that JSON has no type for."""

    def __init__(self) -> None:
        self.foreign = False
        self._encode = msgspec.json.Encoder(enc_hook=self._convert).encode

    def encode(self, value: Any) -> bytes:
        self.foreign = False
        return self._encode(value)

    def _convert(self, value: Any) -> Any:
        if isinstance(value, Int64):
            # Numbers come back by their size. A small one that was sent as 64 bits is told apart only by its bytes.
            self.foreign = self.foreign or int(value) in _int32
            return int(value)
        self.foreign = True
        if isinstance(value, _Blob):
            value = value.value
        return json_util.default(value, json_util.RELAXED_JSON_OPTIONS)


def encode_documents(documents: Sequence[bytes]) -> tuple[str, list[bytes | None]]:
    """Return a JSON array of the documents, and for each that JSON alone cannot give back, its bytes.

    Raises:
        ValueError: one of them is not BSON.
    """
    encoder = _Encoder()
    try:
        decoded = bson.decode_all(b"".join(documents), _options)
        # All at once in C; only if that shows something special is each looked at by itself.
        text = encoder.encode(decoded)
        if not encoder.foreign and _comes_back(documents, decoded, text):
            return text.decode(), [None] * len(documents)
    except (bson.InvalidBSON, ValueError, RecursionError, OverflowError):
        pass
    texts, kept = [], []
    for document in documents:
        text, is_plain = _encode_one(encoder, document)
        texts.append(text)
        kept.append(None if is_plain else document)
    return (b"[" + b",".join(texts) + b"]").decode(), kept


def decode_document(text: str) -> bytes:
    """Return the BSON of a plain document, given as JSON text."""
    return bson.encode(_from_json(text))


def _encode_one(encoder: _Encoder, document: bytes) -> tuple[bytes, bool]:
    try:
        decoded = bson.decode(document, _options)
        text = encoder.encode(decoded)
    except Exception as error:  # bson raises several kinds for hostile bytes, RecursionError among them
        raise ValueError(f"not a BSON document: {str(error)[:200]}") from None
    if not encoder.foreign and _comes_back([document], [decoded], b"[" + text + b"]"):
        return text, True
    if b"null" in text:
        text = encoder.encode(_spell_out(decoded))
    return text, False


def _comes_back(documents: Sequence[bytes], decoded: list[dict[str, Any]], text: bytes) -> bool:
    """Tell whether what was decoded gives the same bytes again, and the text the same values."""
    # As the elements of one array, so that one call in C does it: each has its type and number in front.
    numbered = [part for number, each in enumerate(documents) for part in (b"\x03%d\0" % number, each)]
    if bson.encode({"": decoded})[_ARRAY_START:_ARRAY_STOP] != b"".join(numbered):
        return False
    # NaN and the infinities are null in the text.
    return b"null" not in text or bool(_from_json(text) == decoded)


def _spell_out(value: Any) -> Any:
    """Write the numbers that JSON lacks as Extended JSON does."""
    if isinstance(value, dict):
        return {key: _spell_out(each) for key, each in value.items()}
    if isinstance(value, list):
        return [_spell_out(each) for each in value]
    if isinstance(value, float) and not math.isfinite(value):
        return {"$numberDouble": _NOT_FINITE.get(value, "NaN")}
    return value
