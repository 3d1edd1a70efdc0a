"""The users' documents: BSON on the wire, `VARIANT` in the table.

A document of JSON's types alone ("plain") goes into `VARIANT` as it is, and the BSON is rebuilt from there. Any other
goes in twice: as Extended JSON v2 (relaxed) for queries, and as the bytes that came, for reading. Whether a document is
plain is not guessed from its types: it is, if its bytes come back.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import chain
from typing import Any

import bson
import msgspec
from bson import json_util
from bson.codec_options import CodecOptions, DatetimeConversion
from bson.int64 import Int64

from eventstorm_sinks.stores._extended import BLOBS, INT32, Blob, spell_out

__all__ = ["decode_document", "encode_documents"]


_options: CodecOptions[dict[str, Any]] = CodecOptions(datetime_conversion=DatetimeConversion.DATETIME_MS)
_options_with_blobs = _options.with_options(type_registry=BLOBS)
# How many are encoded together: in C, while they are in the processor's cache. One that is not plain slows down these.
_TOGETHER = 500
# Where the elements lie in {"": [element, …]}: after two lengths, a type and an empty name, before two NULs; and what
# stands in front of each, its type and number.
_ARRAY_START, _ARRAY_STOP = 10, -2
# What the encoder of JSON writes in its own way without asking: NaN and the infinities (as null), and binary values of
# subtype 0: a type, a name, a length, and a zero. All that looks so is read back, to see that it is something else.
# (What follows the name is looked at only once it is found, or hostile texts would be searched again and again.)
_after_binary_names = re.compile(rb"\x05[^\0]*\0(?=(.{4}\0|))", re.DOTALL).findall
_NUMBERS = [b"\x03%d\0" % number for number in range(_TOGETHER)]


def encode_documents(documents: Sequence[bytes]) -> tuple[list[bytes], list[bytes | None]]:
    """Return the documents as JSON, and for each that JSON alone cannot give back, its bytes.

    Raises:
        ValueError: one of them is not BSON.
    """
    texts: list[bytes] = []
    kept: list[bytes | None] = []
    for start in range(0, len(documents), _TOGETHER):
        some = documents[start : start + _TOGETHER]
        if lines := _encode_plain(some):
            # Within a document there is no line's end: JSON has control characters in texts escaped.
            texts += lines.split(b"\n")[:-1]
            kept += [None] * len(some)
            continue
        for document in some:
            line = _encode_plain([document])
            texts.append(line or _encode_foreign(document))
            kept.append(None if line else document)
    return texts, kept


def decode_document(text: str) -> bytes:
    """Return the BSON of a plain document, given as JSON text."""
    return bson.encode(_from_json(text))


def _to_int(value: Any) -> int:
    # Numbers come back by their size: a small one that was sent as 64 bits would not.
    if isinstance(value, Int64) and int(value) not in INT32:
        return int(value)
    raise NotImplementedError


def _to_extended(value: Any) -> Any:
    if isinstance(value, Int64):
        return int(value)
    return json_util.default(value.value if isinstance(value, Blob) else value, json_util.RELAXED_JSON_OPTIONS)


_to_lines = msgspec.json.Encoder(enc_hook=_to_int).encode_lines
_to_extended_json = msgspec.json.Encoder(enc_hook=_to_extended).encode
_from_json = msgspec.json.Decoder().decode
_from_lines = msgspec.json.Decoder().decode_lines


def _encode_plain(documents: Sequence[bytes]) -> bytes | None:
    """Return the JSON of documents, each with a line's end; None if one of them is not plain."""
    try:
        joined = b"".join(documents)
        read: list[Any] = bson.decode_all(joined, _options)
        text = _to_lines(read)
        if b"null" in text or any(_after_binary_names(joined)):
            read = _from_lines(text)
        # As the elements of one array, so that one call in C does it.
        encoded = bson.encode({"": read})[_ARRAY_START:_ARRAY_STOP]
    except Exception:  # bson raises several kinds for hostile bytes, RecursionError among them
        return None
    came = b"".join(chain.from_iterable(zip(_NUMBERS, documents, strict=False)))
    return text if encoded == came else None


def _encode_foreign(document: bytes) -> bytes:
    """Return the Extended JSON of a document."""
    try:
        decoded = bson.decode(document, _options_with_blobs)
        text = _to_extended_json(decoded)
        return _to_extended_json(spell_out(decoded)) if b"null" in text else text
    except Exception as error:  # as above
        raise ValueError(f"not a BSON document: {str(error)[:200]}") from None
